//! What is asked, and what is answered.

use std::ops::ControlFlow;

use isotherm::ErrorKind;
use isotherm::control::{Conversation, Remote};
use serde_json::json;

use crate::{Place, flip};

#[test]
fn every_request_is_answered_on_one_connection() {
    let place = Place::new();
    let (store, bucket) = place.filled();
    let mut client = place.client();
    let info = client.ask(&json!({ "request": "info", "protocol": 1 }));
    assert_eq!(info["answer"]["process"], std::process::id());
    assert_eq!(info["answer"]["store"], store.info().store_uuid.to_string());
    assert_eq!(info["answer"]["tiers"][1]["capacity"], 64 << 20);
    let stats = client.ask(&json!({ "request": "stats" }));
    assert_eq!((&stats["answer"]["blobs"], &stats["answer"]["puts"]), (&json!(2), &json!(2)));
    let place = client.ask(&json!({ "request": "where", "bucket": "b", "key": "large" }));
    let found = bucket.locate(b"large").unwrap();
    assert_eq!(place["answer"]["count"], found.len());
    assert_eq!(place["answer"]["buffers"][2]["device_offset"], found[2].device_offset.unwrap());
    assert_eq!(place["answer"]["buffers"][2]["tier"], "nvme:0");
    for request in [json!({"request": "flush"}), json!({"request": "flush", "bucket": "b"})] {
        assert_eq!(client.ask(&request)["answer"], json!({}));
    }
    let report = client.ask(&json!({ "request": "check" }));
    assert_eq!(report["answer"]["clean"], true, "{report}");
    assert_eq!(
        (&report["answer"]["blobs"], &report["answer"]["miscounts"]),
        (&json!(2), &json!([]))
    );
}

#[test]
fn an_error_has_a_kind_a_code_and_a_message() {
    let place = Place::new();
    let _store = place.filled();
    let mut client = place.client();
    let expected = [
        (json!({"request": "where", "bucket": "b", "key": "absent"}), "NotFound", -201, "absent"),
        (json!({"request": "where", "bucket": "x", "key": "k"}), "BucketNotFound", -202, "x"),
        (json!({"request": "where", "bucket": "b", "key": ""}), "InvalidArgument", -101, "1 to"),
        (json!({"request": "flush", "bucket": "x"}), "BucketNotFound", -202, "x"),
        (json!({"request": "check", "bytes_per_second": 0}), "InvalidArgument", -101, "0 bytes"),
        (json!({"request": "drain"}), "Unsupported", -104, "drain"),
        (json!({"request": "info", "protocol": 9}), "Unsupported", -104, "9"),
    ];
    for (request, kind, code, word) in expected {
        let error = &client.ask(&request)["error"];
        assert_eq!((&error["kind"], &error["code"]), (&json!(kind), &json!(code)), "{error}");
        assert!(error["message"].as_str().unwrap().contains(word), "{error}");
    }
    assert!(client.works());
}

#[test]
fn a_check_tells_its_progress_and_what_it_found() {
    let place = Place::new();
    let (store, bucket) = place.filled();
    let broken = &bucket.locate(b"large").unwrap()[1];
    flip(store.info().tiers[1].path.as_ref().unwrap(), broken.device_offset.unwrap() + 5);
    let mut client = place.client();
    // Slow enough to be seen on its way.
    client.send(b"{\"request\":\"check\",\"bytes_per_second\":1000000}\n");
    let mut progress = Vec::new();
    let report = loop {
        let line = client.line().unwrap();
        match line.get("progress") {
            Some(done) => progress.push(done["bytes"].as_u64().unwrap()),
            None => break line["answer"].clone(),
        }
    };
    assert!(progress.len() >= 2 && progress.is_sorted(), "{progress:?}");
    assert_eq!((&report["clean"], &report["fault_count"]), (&json!(false), &json!(1)));
    let fault = &report["faults"][0];
    assert_eq!((&fault["bucket"], &fault["key"]), (&json!("b"), &json!("large")));
    assert_eq!((&fault["kind"], &fault["tier"]), (&json!("Corrupt"), &json!(0)));
    assert_eq!(fault["device_offset"], broken.device_offset.unwrap());
    assert_eq!(fault["key_hex"], "6c61726765");
}

#[test]
fn top_tells_rates_since_the_last_one() {
    let place = Place::new();
    let (_store, bucket) = place.filled();
    let mut client = place.client();
    let puts = |top: &serde_json::Value| {
        top["puts_per_second"].as_f64().unwrap() * top["seconds"].as_f64().unwrap()
    };
    let mut top = || client.ask(&json!({ "request": "top" }))["answer"].clone();
    assert_eq!(puts(&top()).round() as u64, 2);
    for n in 0..50u32 {
        bucket.put(&n.to_le_bytes(), &[1; 5000]).unwrap();
    }
    let second = top();
    assert_eq!(puts(&second).round() as u64, 50);
    assert!(second["tiers"][0]["written_bytes_per_second"].as_f64().unwrap() > 0.0);
    assert_eq!(puts(&top()), 0.0);
}

#[test]
fn requests_sent_together_are_answered_in_order() {
    let place = Place::new();
    let _store = place.filled();
    let mut client = place.client();
    client.send(b"{\"request\":\"info\"}\n{\"request\":\"nonsense\"}\n{\"request\":\"stats\"}\n");
    assert!(client.line().unwrap()["answer"].get("epoch").is_some());
    assert!(client.line().unwrap().get("error").is_some());
    assert!(client.line().unwrap()["answer"].get("blobs").is_some());
}

#[test]
fn the_other_end_of_the_engine_asks_and_is_answered_the_same() {
    let place = Place::new();
    let (store, _) = place.filled();
    let go_on = &mut |_: &serde_json::Value| ControlFlow::Continue(());
    let mut remote = Remote::connect(place.store()).unwrap().unwrap();
    let mut own = Conversation::with(&store);
    let request = json!({ "request": "where", "bucket": "b", "key": "small" });
    let remote_fields = remote.ask(&request, go_on).unwrap();
    let own_fields = own.ask(&request, go_on).unwrap();
    assert_eq!(remote_fields["buffers"][0]["buffer"], own_fields["buffers"][0]["buffer"]);
    let error = remote.ask(&json!({ "request": "where", "bucket": "b", "key": "no" }), go_on);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotFound);
    let slow = json!({ "request": "check", "bytes_per_second": 1 });
    let stopped = remote.ask(&slow, &mut |_| ControlFlow::Break(()));
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Cancelled);
    drop(remote);
    store.close().unwrap();
    assert!(Remote::connect(place.store()).unwrap().is_none());
    let closed = own.ask(&json!({ "request": "info" }), go_on).unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::Closed);
}
