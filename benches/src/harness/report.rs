//! What came of a run: as JSON of fio's shape, or for people.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use isotherm::config::values::{format_duration, format_size};
use serde_json::{Map, Value, json};

use crate::fio::Kind;
use crate::harness::figures::Figures;
use crate::harness::plan::Plan;
use crate::usage::CpuTimes;

/// Those that fio reports.
const PERCENTILES: [f64; 17] = [
    1.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95,
    99.99,
];

/// A run's figures, of all jobs together.
pub struct Report<'a> {
    /// What was to be done.
    pub plan: &'a Plan,
    /// What was counted.
    pub figures: Figures,
    /// Time of the job that took longest.
    pub time: Duration,
    /// Time of all jobs, added up.
    pub time_of_jobs: Duration,
    /// What the whole process used meanwhile, the engine's own threads too.
    pub cpu: CpuTimes,
    /// What the store says of itself.
    pub store: Value,
}

impl Report<'_> {
    /// Operations per second of a kind.
    fn rate(&self, kind: Kind) -> f64 {
        self.figures.latencies_ns(kind).len() as f64 / self.time.as_secs_f64().max(1e-9)
    }

    /// Bytes that operations of a kind transferred.
    fn bytes(&self, kind: Kind) -> u64 {
        self.figures.latencies_ns(kind).len() * self.plan.options.bs
    }

    /// A part of the CPU in percent of the jobs' time, as fio has it.
    fn cpu_percent(&self, part: Duration) -> f64 {
        part.as_secs_f64() * 100.0 / self.time_of_jobs.as_secs_f64().max(1e-9)
    }

    fn cpu_ns_per_operation(&self) -> f64 {
        self.cpu.total().as_nanos() as f64 / self.figures.operations().max(1) as f64
    }

    /// As `fio --output-format=json` has it, all jobs as one; `cpu_ns_per_op`, `mismatches` and `store`
    /// are ours.
    pub fn json(&self) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        json!({
            "isotherm-bench version": env!("CARGO_PKG_VERSION"),
            "timestamp": now.as_secs(),
            "timestamp_ms": now.as_millis() as u64,
            "jobs": [{
                "jobname": self.plan.options.name,
                "groupid": 0,
                "error": i32::from(self.figures.mismatches > 0),
                "elapsed": self.time.as_secs_f64().ceil() as u64,
                "job options": self.options(),
                "read": self.direction(Kind::Read),
                "write": self.direction(Kind::Write),
                "job_runtime": self.time_of_jobs.as_millis() as u64,
                "usr_cpu": self.cpu_percent(self.cpu.user),
                "sys_cpu": self.cpu_percent(self.cpu.system),
                "cpu_ns_per_op": self.cpu_ns_per_operation(),
                "mismatches": self.figures.mismatches,
            }],
            "store": self.store,
        })
    }

    /// As text, as fio has them.
    fn options(&self) -> Value {
        let options = &self.plan.options;
        let mut texts = Map::new();
        let mut put = |name: &str, text: String| texts.insert(name.to_owned(), Value::String(text));
        put("rw", options.rw.name().to_owned());
        put("bs", options.bs.to_string());
        put("blob_size", self.plan.blob_len.to_string());
        put("size", options.size.to_string());
        put("numjobs", options.numjobs.to_string());
        put("iodepth", options.iodepth.to_string());
        if let Some(runtime) = options.runtime {
            put("runtime", format_duration(runtime));
        }
        put("time_based", u8::from(options.time_based).to_string());
        put("rwmixread", options.rwmixread.to_string());
        put("randseed", options.randseed.to_string());
        put("cold", u8::from(options.cold).to_string());
        put("verify", u8::from(options.verify).to_string());
        put("engine", options.engine.name().to_owned());
        if let Some(library) = &options.library {
            put("library", library.to_string_lossy().into_owned());
        }
        let settings = self.plan.settings.iter().map(|(key, value)| format!("{key}={value}"));
        put("set", settings.collect::<Vec<_>>().join(" "));
        Value::Object(texts)
    }

    fn direction(&self, kind: Kind) -> Value {
        let (seen, bytes) = (self.figures.latencies_ns(kind), self.bytes(kind));
        let bytes_per_second = self.rate(kind) * self.plan.options.bs as f64;
        let latency = latency(seen);
        json!({
            "io_bytes": bytes,
            "io_kbytes": bytes >> 10,
            "bw_bytes": bytes_per_second as u64,
            "bw": (bytes_per_second / 1024.0) as u64,
            "iops": self.rate(kind),
            "runtime": if seen.is_empty() { 0 } else { self.time.as_millis() as u64 },
            "total_ios": seen.len(),
            "short_ios": 0,
            // There is no submission apart: a latency is that of the whole operation.
            "clat_ns": latency,
            "lat_ns": latency,
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let (plan, options) = (self.plan, &self.plan.options);
        let mut text = format!(
            "{}: rw={}, bs={}, blob_size={}, size={}, numjobs={}, iodepth={}, engine={}, durability={}\n",
            options.name,
            options.rw.name(),
            format_size(options.bs),
            format_size(plan.blob_len),
            format_size(options.size),
            options.numjobs,
            options.iodepth,
            options.engine.name(),
            self.store["durability"].as_str().unwrap_or("unknown"),
        );
        for (kind, name) in [(Kind::Read, "read"), (Kind::Write, "write")] {
            let seen = self.figures.latencies_ns(kind);
            if seen.is_empty() {
                continue;
            }
            let rate = self.rate(kind);
            let bandwidth = rate * options.bs as f64 / f64::from(1 << 20);
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "  {name}: IOPS={rate:.0}, BW={bandwidth:.2}MiB/s, {} operations in {:.0} ms",
                seen.len(),
                self.time.as_secs_f64() * 1e3,
            );
            let _ = writeln!(text, "    lat (ns): {}", latency_text(seen));
        }
        let _ = writeln!(
            text,
            "  cpu: usr={:.2}%, sys={:.2}%, {:.0} ns per operation",
            self.cpu_percent(self.cpu.user),
            self.cpu_percent(self.cpu.system),
            self.cpu_ns_per_operation(),
        );
        if self.figures.mismatches > 0 {
            let _ = writeln!(text, "  verify: {} MISMATCHES", self.figures.mismatches);
        }
        text
    }
}

fn latency(seen: &Histogram<u64>) -> Value {
    let percentile = |percent: f64| (format!("{percent:.6}"), json!(at_percent(seen, percent)));
    json!({
        "min": seen.min(),
        "max": seen.max(),
        "mean": seen.mean(),
        "stddev": seen.stdev(),
        "N": seen.len(),
        "percentile": Map::from_iter(PERCENTILES.map(percentile)),
    })
}

fn latency_text(seen: &Histogram<u64>) -> String {
    let percentiles = [50.0, 95.0, 99.0, 99.9]
        .map(|percent| format!("p{percent}={}", at_percent(seen, percent)))
        .join(", ");
    let (min, max, mean, stdev) = (seen.min(), seen.max(), seen.mean(), seen.stdev());
    format!("min={min}, mean={mean:.0}, stdev={stdev:.0}, {percentiles}, max={max}")
}

fn at_percent(seen: &Histogram<u64>, percent: f64) -> u64 {
    // The histogram answers with the end of a step, which may be beyond the largest value.
    seen.value_at_quantile(percent / 100.0).min(seen.max())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::plan::tests::plan;

    /// 3,000 reads of 1 to 3 us and 1,000 writes of 5 us by two jobs in half a second.
    fn report(plan: &Plan) -> Report<'_> {
        let mut figures = Figures::new().unwrap();
        for n in 0..3000 {
            figures.count(Kind::Read, Duration::from_nanos(1000 * (n % 3 + 1)));
        }
        (0..1000).for_each(|_| figures.count(Kind::Write, Duration::from_nanos(5000)));
        let cpu = CpuTimes { user: Duration::from_millis(300), system: Duration::from_millis(100) };
        Report {
            plan,
            figures,
            time: Duration::from_millis(500),
            time_of_jobs: Duration::from_millis(1000),
            cpu,
            store: json!({ "durability": "written" }),
        }
    }

    #[test]
    fn json_has_fios_names_and_its_units() {
        let plan = plan("--rw=randrw --bs=4k --size=1m --numjobs=2 --name=x").unwrap();
        let json = report(&plan).json();
        let job = &json["jobs"][0];
        let (read, write) = (&job["read"], &job["write"]);
        assert_eq!((&job["jobname"], &job["error"]), (&json!("x"), &json!(0)));
        assert_eq!(read["iops"], json!(6000.0));
        assert_eq!(read["bw_bytes"], json!(6000 * 4096));
        assert_eq!((&read["total_ios"], &read["io_bytes"]), (&json!(3000), &json!(3000 * 4096)));
        assert_eq!((&read["runtime"], &job["job_runtime"]), (&json!(500), &json!(1000)));
        assert_eq!((&write["lat_ns"]["min"], &write["lat_ns"]["N"]), (&json!(5000), &json!(1000)));
        let percentiles = &read["clat_ns"]["percentile"];
        assert!((2000..=2002).contains(&percentiles["50.000000"].as_u64().unwrap()));
        assert!((3000..=3002).contains(&percentiles["99.900000"].as_u64().unwrap()));
        assert!((read["lat_ns"]["mean"].as_f64().unwrap() - 2000.0).abs() < 2.0);
        assert!((read["lat_ns"]["stddev"].as_f64().unwrap() - 816.5).abs() < 2.0);
    }

    #[test]
    fn cpu_is_percent_of_the_jobs_time_and_nanoseconds_of_an_operation() {
        let plan = plan("--rw=randrw --size=1m --numjobs=2").unwrap();
        let json = report(&plan).json();
        let job = &json["jobs"][0];
        assert_eq!((&job["usr_cpu"], &job["sys_cpu"]), (&json!(30.0), &json!(10.0)));
        assert_eq!(job["cpu_ns_per_op"], json!(100_000.0));
    }

    #[test]
    fn a_direction_without_operations_is_all_zeros() {
        let plan = plan("--rw=read --size=1m").unwrap();
        let figures = Figures::new().unwrap();
        let nothing = Report { figures, time: Duration::ZERO, ..report(&plan) };
        let write = &nothing.json()["jobs"][0]["write"];
        assert_eq!((&write["iops"], &write["lat_ns"]["max"]), (&json!(0.0), &json!(0)));
        assert_eq!(write["lat_ns"]["percentile"]["99.990000"], json!(0));
    }

    #[test]
    fn text_has_a_line_for_each_direction_that_did_something() {
        let plan = plan("--rw=randrw --bs=4k --size=1m").unwrap();
        let mut report = report(&plan);
        let text = report.text();
        assert!(
            text.contains("rw=randrw, bs=4KiB") && text.contains("durability=written"),
            "{text}"
        );
        assert!(
            text.contains("read: IOPS=6000, BW=23.44MiB/s, 3000 operations in 500 ms"),
            "{text}"
        );
        assert!(text.contains("p50=") && text.contains("write: IOPS=2000"), "{text}");
        assert!(!text.contains("MISMATCHES"));
        report.figures.mismatches = 3;
        assert!(report.text().contains("3 MISMATCHES"));
        assert_eq!(report.json()["jobs"][0]["error"], json!(1));
    }
}
