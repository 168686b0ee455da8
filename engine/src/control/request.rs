//! What may be asked, and how it is read: strictly, so that a mistake is told and not guessed at.

use serde_json::{Map, Value};

use crate::control::PROTOCOL;
use crate::error::{Error, ErrorKind, Result, fail};

/// A request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// What the store is and how it runs.
    Info,
    /// Everything counted.
    Stats,
    /// Where the buffers of a blob lie.
    Where { bucket: String, key: Vec<u8> },
    /// Read and compare everything; so many bytes a second.
    Check { bytes_per_second: Option<u64> },
    /// Make everything acknowledged durable; of this bucket.
    Flush { bucket: Option<String> },
    /// Rates since the last such request.
    Top,
}

const NAMES: &str = "info, stats, where, check, flush, top";

impl Request {
    /// Reads a request.
    pub fn read(request: &Value) -> Result<Request> {
        let Value::Object(fields) = request else {
            fail!(InvalidArgument, "a request is a JSON object, such as {{\"request\":\"info\"}}");
        };
        let mut fields = Fields(fields.clone());
        match fields.number("protocol")? {
            None | Some(PROTOCOL) => {}
            Some(other) => {
                fail!(Unsupported, "protocol {other} is not known here; {PROTOCOL} is")
            }
        }
        let Some(name) = fields.text("request")? else {
            fail!(InvalidArgument, "the request has no field 'request'; it is one of {NAMES}");
        };
        let request = match name.as_str() {
            "info" => Request::Info,
            "stats" => Request::Stats,
            "where" => Request::Where { bucket: fields.needed("bucket")?, key: fields.key()? },
            "check" => Request::Check { bytes_per_second: fields.number("bytes_per_second")? },
            "flush" => Request::Flush { bucket: fields.text("bucket")? },
            "top" => Request::Top,
            other => fail!(Unsupported, "unknown request {other:?}; it is one of {NAMES}"),
        };
        fields.none_left(&name)?;
        Ok(request)
    }
}

/// The fields that have not been read yet.
struct Fields(Map<String, Value>);

impl Fields {
    fn text(&mut self, name: &str) -> Result<Option<String>> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(name, "a string", &other)),
        }
    }

    fn needed(&mut self, name: &str) -> Result<String> {
        let missing = || Error::new(ErrorKind::InvalidArgument, format!("'{name}' is missing"));
        self.text(name)?.ok_or_else(missing)
    }

    fn number(&mut self, name: &str) -> Result<Option<u64>> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(value) => match value.as_u64() {
                Some(number) => Ok(Some(number)),
                None => Err(wrong(name, "a whole number from 0 on", &value)),
            },
        }
    }

    /// A key as text, or as hexadecimal digits where it is no text.
    fn key(&mut self) -> Result<Vec<u8>> {
        match (self.text("key")?, self.text("key_hex")?) {
            (Some(key), None) => Ok(key.into_bytes()),
            (None, Some(digits)) => match from_hex(&digits) {
                Some(key) => Ok(key),
                None => fail!(InvalidArgument, "'key_hex' is not pairs of hexadecimal digits"),
            },
            _ => fail!(InvalidArgument, "name the blob with one of 'key' and 'key_hex'"),
        }
    }

    fn none_left(&self, request: &str) -> Result<()> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => fail!(InvalidArgument, "request '{request}' has no field '{name}'"),
        }
    }
}

fn wrong(name: &str, wanted: &str, found: &Value) -> Error {
    let mut text = found.to_string();
    if let Some((end, _)) = text.char_indices().nth(64) {
        text.truncate(end);
    }
    Error::new(ErrorKind::InvalidArgument, format!("'{name}' is {wanted}, not {text}"))
}

/// Bytes as hexadecimal digits.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some((digit(*high)? * 16 + digit(*low)?) as u8),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_key_of_any_bytes_may_be_named() {
        let blob = |key: &[u8]| Request::Where { bucket: "b".into(), key: key.into() };
        let read = |request| Request::read(&request).unwrap();
        assert_eq!(
            read(json!({"request": "where", "bucket": "b", "key": "kä"})),
            blob("kä".as_bytes())
        );
        let digits = to_hex(&[0, 255, 10]);
        let request = json!({"request": "where", "bucket": "b", "key_hex": digits});
        assert_eq!(read(request), blob(&[0, 255, 10]));
        assert_eq!((from_hex("0"), from_hex("0g"), from_hex("ä")), (None, None, None));
    }

    #[test]
    fn a_mistake_is_named() {
        let wrong = [
            (json!([]), "JSON object"),
            (json!({}), "'request'"),
            (json!({"request": 7}), "not 7"),
            (json!({"request": "drop"}), "\"drop\""),
            (json!({"request": "info", "protocol": 2}), "protocol 2"),
            (json!({"request": "info", "protocol": -1}), "'protocol'"),
            (json!({"request": "info", "bucket": "b"}), "'bucket'"),
            (json!({"request": "where", "key": "k"}), "'bucket' is missing"),
            (json!({"request": "where", "bucket": "b"}), "'key_hex'"),
            (json!({"request": "where", "bucket": "b", "key": "k", "key_hex": "00"}), "one of"),
            (json!({"request": "check", "bytes_per_second": 1.5}), "1.5"),
            (json!({"request": "flush", "bucket": ["b"]}), "[\"b\"]"),
        ];
        for (request, word) in wrong {
            let error = Request::read(&request).unwrap_err();
            assert!(error.message().contains(word), "{request}: {error}");
        }
    }
}
