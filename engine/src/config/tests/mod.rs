//! The configuration from the user's side: keys, TOML, validation, and what resolving fills in.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::testing::TestDir;
use super::*;
use crate::error::ErrorKind;

/// Asserts an `InvalidConfig` whose message holds each part.
fn refused<T: std::fmt::Debug>(result: Result<T>, parts: &[&str]) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
    for part in parts {
        assert!(error.message().contains(part), "'{part}' is not in: {error}");
    }
}

fn toml_refused(text: &str, parts: &[&str]) {
    refused(Config::from_toml(text), parts);
}

const FULL: &str = r#"
shards = 2
segment_size = "8MiB"
buffer_size = 524288
durability = "durable"
flush_interval = "1s"
memory_budget = "1GiB"
io = "threads"
organizer = "threads"
checksum_at_entry = true
create = false

[[tier]]
kind = "dram"
capacity = "128MiB"
watermark_low = 0.5
watermark_high = "75%"

[[tier]]
kind = "nvme"
path = "somewhere/fast"
capacity = "1GiB"
"#;

#[test]
fn a_toml_text_sets_everything() {
    let config = Config::from_toml(FULL).unwrap();
    assert_eq!(config.shards(), Some(2));
    assert_eq!(config.segment_size(), Some(8 << 20));
    assert_eq!(config.buffer_size(), 512 << 10);
    assert_eq!(config.durability(), Some(Durability::Durable));
    assert_eq!(config.flush_interval(), Duration::from_secs(1));
    assert_eq!(config.memory_budget(), Some(1 << 30));
    assert_eq!((config.io(), config.organizer()), (IoChoice::Threads, OrganizerChoice::Threads));
    assert!(config.checksum_at_entry() && !config.create());
    let [dram, nvme] = config.tiers() else { panic!("two tiers") };
    assert_eq!(
        (dram.kind(), dram.watermark_low(), dram.watermark_high()),
        (TierKind::Dram, 0.5, 0.75)
    );
    assert_eq!(nvme.path(), Some(Path::new("somewhere/fast")));
    assert_eq!(nvme.capacity(), Some(1 << 30));
}

#[test]
fn every_key_reads_back_what_was_set() {
    let config = Config::from_toml(FULL).unwrap();
    let mut copy = Config::builder();
    for number in ["0", "1"] {
        for doc in keys() {
            let key = doc.name.replace("N", number);
            copy.set(&key, &config.get(&key).unwrap()).unwrap();
        }
    }
    assert_eq!(copy.build().unwrap(), config);
    for doc in keys() {
        assert!(!doc.doc.is_empty(), "{}", doc.name);
    }
}

#[test]
fn documented_defaults_are_the_defaults() {
    let mut builder = Config::builder();
    builder.set("tier.0.kind", "nvme").unwrap();
    for doc in keys().into_iter().filter(|doc| doc.default != "required") {
        let key = doc.name.replace("N", "0");
        assert_eq!(builder.get(&key).unwrap(), doc.default, "{key}");
    }
}

#[test]
fn an_unknown_key_is_named_with_its_nearest() {
    toml_refused("shard = 2", &["'shard'", "'shards'"]);
    toml_refused(
        "[[tier]]\nkind = 'dram'\ncapcity = 1",
        &["'tier.0.capcity'", "'tier.0.capacity'"],
    );
    refused(Config::builder().set("flushinterval", "1s"), &["'flush_interval'"]);
    refused(Config::builder().set("tier.x.kind", "nvme"), &["'tier.N.kind'"]);
    refused(Config::builder().set("tier.16.kind", "nvme"), &["at most 16"]);
    refused(Config::default().get("tier.0.kind"), &["no tier 0"]);
}

#[test]
fn a_value_of_the_wrong_form_is_named_with_its_key() {
    toml_refused("shards = -1", &["shards", "-1"]);
    toml_refused("shards = nan", &["shards"]);
    toml_refused("buffer_size = 1e400", &["TOML"]);
    toml_refused("memory_budget = '16EiB'", &["memory_budget", "16EiB"]);
    toml_refused("durability = 'forever'", &["memory, written, durable"]);
    toml_refused("create = 1979-05-27", &["create", "date"]);
    toml_refused("shards = 1\nshards = 2", &["TOML", "duplicate"]);
    toml_refused("[tier]\nkind = 'nvme'", &["tier.kind"]);
}

#[test]
fn numbers_out_of_range_are_refused_with_the_range() {
    toml_refused("shards = 0", &["shards = 0", "1 to 8"]);
    toml_refused("shards = 9", &["1 to 8"]);
    toml_refused("buffer_size = '2MiB'", &["64KiB to 1MiB"]);
    toml_refused("buffer_size = '65KiB'", &["multiple of 16KiB"]);
    toml_refused("segment_size = '2MiB'", &["4MiB to 64MiB"]);
    toml_refused("segment_size = '6MiB'", &["power of two", "4MiB"]);
    toml_refused("flush_interval = '0s'", &["1ms to 3600s"]);
    let tier = |text: &str| format!("[[tier]]\n{}", text.replace(';', "\n"));
    toml_refused(&tier("kind='dram';capacity='1MiB'"), &["tier.0.capacity = 1MiB", "8MiB"]);
    toml_refused(&tier("kind='nvme';capacity='1MiB'"), &["64MiB to 1PiB"]);
    toml_refused(&tier("kind='nvme';watermark_low=0.9"), &["0.9 is not below watermark_high"]);
    toml_refused(&tier("kind='nvme';watermark_high=1.5"), &["1.5"]);
    toml_refused(&tier("kind='nvme';watermark_low=0"), &["watermark_low = 0"]);
    refused(
        Config::builder().tier(Tier::nvme("1GiB").watermarks(f64::NAN, 0.9)).build(),
        &["watermark_low = NaN"],
    );
    refused(
        Config::builder().segment_size("64MiB").tier(Tier::nvme("512MiB")).build(),
        &["tier.0.capacity", "raise it to 1GiB"],
    );
    refused(Config::builder().tier(Tier::nvme("-5")).build(), &["tier.0.capacity", "-5"]);
    refused(Config::builder().buffer_size("big").build(), &["buffer_size", "'big'"]);
}

#[test]
fn tiers_stand_from_fast_to_slow_with_one_dram_tier() {
    let build = |tiers: Vec<Tier>| {
        tiers.into_iter().fold(Config::builder(), |builder, tier| builder.tier(tier)).build()
    };
    refused(build(vec![Tier::dram("8MiB"), Tier::dram("8MiB")]), &["both dram"]);
    refused(build(vec![Tier::hdd("1GiB"), Tier::nvme("1GiB")]), &["tier.1 (nvme)", "slower"]);
    refused(build(vec![Tier::nvme("1GiB"), Tier::dram("8MiB")]), &["fast to slow"]);
    build(vec![Tier::nvme("1GiB"), Tier::nvme("1GiB"), Tier::hdd("1GiB")]).unwrap();
    let many = (0..17).map(|_| Tier::nvme("1GiB")).collect();
    refused(build(many), &["17 tiers", "at most 16"]);
    refused(build(vec![Tier::dram("8MiB").path("x")]), &["dram tier has no path"]);
    toml_refused("[[tier]]\ncapacity = '1GiB'", &["tier.0.kind is missing"]);
    let mut gap = Config::builder();
    gap.set("tier.1.kind", "nvme").unwrap();
    refused(gap.build(), &["tier.1 is configured and tier.0 is not"]);
}

#[test]
fn two_tiers_on_one_path_are_refused_however_it_is_spelled() {
    let dir = TestDir::new("paths");
    fs::create_dir(dir.path().join("sub")).unwrap();
    std::os::unix::fs::symlink(dir.path(), dir.path().join("link")).unwrap();
    for other in ["a", "./a", "sub/../a", "link/a"] {
        let config = Config::builder()
            .tier(Tier::nvme("1GiB").path(dir.path().join("a")))
            .tier(Tier::hdd("1GiB").path(dir.path().join(other)));
        refused(config.build(), &["tier.0.path and tier.1.path are the same"]);
    }
}

#[test]
fn a_memory_budget_below_the_dram_tier_and_its_company_is_refused() {
    let build =
        |budget: &str| Config::builder().tier(Tier::dram("128MiB")).memory_budget(budget).build();
    refused(build("159MiB"), &["memory_budget = 159MiB", "raise it to 160MiB"]);
    build("160MiB").unwrap();
}

#[test]
fn dram_alone_promises_no_more_than_memory() {
    let alone = || Config::builder().tier(Tier::dram("16MiB"));
    refused(alone().durability(Durability::Written).build(), &["durability = written"]);
    let dir = TestDir::new("alone");
    let resolved = alone().build().unwrap().resolve(dir.path()).unwrap();
    assert_eq!(resolved.durability, Durability::Memory);
    assert!(resolved.devices.is_empty());
}

#[test]
fn the_embedded_default_has_dram_and_one_file_in_the_store() {
    let dir = TestDir::new("default");
    let resolved = Config::default().resolve(dir.path()).unwrap();
    let dram = resolved.dram.unwrap();
    assert!(dram.capacity <= 256 << 20 && dram.capacity >= 8 << 20);
    let [nvme] = &resolved.devices[..] else { panic!("one device tier") };
    assert_eq!((nvme.kind, nvme.file.as_path()), (TierKind::Nvme, &*dir.path().join("nvme0.tier")));
    assert!(nvme.capacity.is_multiple_of(nvme.segment_size) && nvme.capacity <= 1 << 40);
    assert!(nvme.capacity <= host::free_space(dir.path()).unwrap().free_bytes);
    assert!((1..=8).contains(&resolved.shards));
    assert!(resolved.memory_budget >= dram.capacity + (32 << 20));
    assert_eq!(resolved.flush_interval, Duration::from_millis(200));
    assert_eq!(resolved.durability, Durability::Written);
}

#[test]
fn segments_are_a_64th_of_the_smallest_tier_within_the_limits() {
    let dir = TestDir::new("segments");
    for (capacity, segment_size) in [("64MiB", 4 << 20), ("700MiB", 8 << 20), ("1GiB", 16 << 20)] {
        let config = Config::builder().tier(Tier::nvme(capacity)).tier(Tier::hdd("1100MiB"));
        let resolved = config.build().unwrap().resolve(dir.path()).unwrap();
        assert_eq!(resolved.devices[1].segment_size, segment_size, "{capacity}");
        assert!(resolved.devices[1].capacity.is_multiple_of(segment_size));
    }
}

#[test]
fn capacity_beyond_the_disk_or_the_memory_names_both_numbers() {
    let dir = TestDir::new("beyond");
    let beyond = Config::builder().tier(Tier::nvme("600TiB")).tier(Tier::hdd("400TiB"));
    refused(beyond.build().unwrap().resolve(dir.path()), &["1000TiB wanted", "free"]);
    let memory = Config::builder().tier(Tier::dram("255GiB")).build().unwrap();
    if host::memory_limit().is_some_and(|limit| limit < 255 << 30) {
        refused(memory.resolve(dir.path()), &["tier.0.capacity = 255GiB", "memory limit"]);
    }
}

#[test]
fn a_tiers_file_must_be_new_and_its_directory_must_exist() {
    let dir = TestDir::new("files");
    let at = |path: &str| {
        let tier = Tier::nvme("64MiB").path(dir.path().join(path));
        Config::builder().tier(tier).build().unwrap().resolve(&dir.path().join("store"))
    };
    refused(at("missing/file"), &["missing does not exist"]);
    fs::write(dir.path().join("taken"), "x").unwrap();
    refused(at("taken"), &["taken exists already"]);
    fs::create_dir(dir.path().join("mount")).unwrap();
    assert_eq!(at("mount").unwrap().devices[0].file, dir.path().join("mount/nvme0.tier"));
}

#[test]
fn a_configuration_file_is_named_in_its_errors() {
    let dir = TestDir::new("file");
    let path = dir.path().join("isotherm.toml");
    let error = Config::from_file(&path).unwrap_err();
    assert!(error.message().contains("isotherm.toml"), "{error}");
    fs::write(&path, "shards = 99").unwrap();
    refused(ConfigBuilder::from_file(&path).unwrap().build(), &["shards = 99"]);
    fs::write(&path, "sharts = 9").unwrap();
    refused(Config::from_file(&path), &["isotherm.toml", "'sharts'"]);
}
