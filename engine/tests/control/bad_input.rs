//! Clients that say nothing, half a message, too much or nonsense, and that do not listen.

use std::time::{Duration, Instant};

use isotherm::control::{CLIENTS_MAX, PATIENCE};

use crate::{Client, Place};

#[test]
fn nonsense_is_refused_and_the_connection_goes_on() {
    let place = Place::new();
    let _store = place.filled();
    let mut client = place.client();
    let nested = "[".repeat(60_000);
    let lines: [&[u8]; 12] = [
        b"",
        b"\0\xff\xfe garbage",
        b"GET / HTTP/1.1",
        b"info",
        b"null",
        b"[1,2,3]",
        b"{\"request\"",
        b"{\"request\":{}}",
        b"{\"request\":\"where\",\"bucket\":1,\"key\":[]}",
        b"{\"request\":\"check\",\"bytes_per_second\":-1}",
        b"{\"request\":\"check\",\"bytes_per_second\":1e400}",
        nested.as_bytes(),
    ];
    for line in lines {
        assert!(client.send(line) && client.send(b"\n"));
        let answer = client.line().unwrap();
        assert_eq!(answer["error"]["code"], -101, "{answer}");
    }
    assert!(client.works());
}

#[test]
fn a_line_of_a_mebibyte_is_cut_off() {
    let place = Place::new();
    let _store = place.filled();
    let mut client = place.client();
    let line = vec![b'x'; 1 << 20];
    client.send(&line);
    let answer = client.line().unwrap();
    assert_eq!(answer["error"]["kind"], "LimitExceeded", "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains("65536"), "{answer}");
    assert_eq!(client.line(), None);
    assert!(place.client().works());
}

#[test]
fn silence_and_half_a_message_keep_nobody_waiting_and_end() {
    let place = Place::new();
    let (_store, bucket) = place.filled();
    let (mut silent, mut half, mut drip) = (place.client(), place.client(), place.client());
    assert!(half.send(b"{\"request\":"));
    let start = Instant::now();
    for n in 0..20u32 {
        assert!(place.client().works());
        bucket.put(&n.to_le_bytes(), b"meanwhile").unwrap();
    }
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
    // A byte now and then buys no time.
    while drip.send(b" ") && start.elapsed() < 3 * PATIENCE {
        std::thread::sleep(Duration::from_millis(100));
    }
    for client in [&mut silent, &mut half, &mut drip] {
        let told = client.line();
        assert!(told.is_none_or(|line| line["error"]["kind"] == "Cancelled"));
        assert_eq!(client.line(), None);
    }
    assert!(start.elapsed() < 2 * PATIENCE, "{:?}", start.elapsed());
    assert!(place.client().works());
}

#[test]
fn of_fifty_connections_at_once_each_is_served_or_told_that_there_are_too_many() {
    let place = Place::new();
    let _store = place.filled();
    let mut clients: Vec<Client> = (0..50).map(|_| place.client()).collect();
    let mut served = 0;
    for client in &mut clients {
        // Who has been turned away may not be able to send.
        client.send(b"{\"request\":\"info\"}\n");
        let line = client.line().unwrap();
        match line.get("answer") {
            Some(_) => served += 1,
            None => assert_eq!(line["error"]["kind"], "Busy", "{line}"),
        }
    }
    assert_eq!(served, CLIENTS_MAX);
    drop(clients);
    let start = Instant::now();
    loop {
        let mut client = place.client();
        client.send(b"{\"request\":\"info\"}\n");
        if client.line().is_some_and(|line| line.get("answer").is_some()) {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "places are not given back");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_client_that_stops_reading_is_dropped() {
    let place = Place::new();
    let _store = place.filled();
    let mut deaf = place.client();
    let start = Instant::now();
    // Answers are longer than requests: what is not read fills up, and then nothing more is taken.
    while deaf.send(b"{\"request\":\"stats\"}\n") {
        assert!(start.elapsed() < 4 * PATIENCE, "it is never dropped");
    }
    assert!(start.elapsed() > PATIENCE / 2, "it was dropped after {:?}", start.elapsed());
    assert!(place.client().works());
}

#[test]
fn a_store_that_closes_waits_for_no_client() {
    let place = Place::new();
    let (store, _) = place.filled();
    let (mut silent, mut half, mut busy) = (place.client(), place.client(), place.client());
    assert!(half.send(b"{\"request\":"));
    assert!(busy.send(b"{\"request\":\"check\",\"bytes_per_second\":1}\n"));
    assert!(busy.line().unwrap().get("progress").is_some());
    let start = Instant::now();
    store.close().unwrap();
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
    assert!(!place.socket().exists());
    for client in [&mut silent, &mut half, &mut busy] {
        while client.line().is_some() {}
    }
    place.open().close().unwrap();
}
