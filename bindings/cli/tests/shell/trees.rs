//! `put -r` and `get -r`.

use std::fs::{self, File};
use std::path::Path;

use crate::support::{SMALL, Shell, noise};

/// Files of several sizes in several directories, by their keys.
const FILES: [(&str, usize); 4] =
    [("a.txt", 10), ("lib/b.bin", 200_000), ("lib/deep/er/c", 0), ("lib/Ünïcode name", 4096)];

fn make_tree(root: &Path) {
    for (key, len) in FILES {
        let path = root.join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, noise(len)).unwrap();
    }
}

fn put_tree(shell: &Shell, root: &Path) -> crate::support::Ran {
    let put = ["put", "-r", "tree", root.to_str().unwrap()];
    shell.run(&[&SMALL[..], &put[..]].concat())
}

#[test]
fn a_tree_comes_back_file_by_file() {
    let shell = Shell::empty();
    let (root, restored) = (shell.path("src"), shell.path("restored"));
    make_tree(&root);
    put_tree(&shell, &root).expect_code(0);
    shell.run(&["get", "-r", "tree", restored.to_str().unwrap()]).expect_code(0);
    for (key, len) in FILES {
        assert!(fs::read(restored.join(key)).unwrap() == noise(len), "{key}");
    }
    let stat = shell.json(&["stat", "tree"]);
    let bytes: usize = FILES.iter().map(|(_, len)| len).sum();
    assert_eq!((&stat["blobs"], &stat["bytes"]), (&FILES.len().into(), &bytes.into()));
}

#[test]
fn links_are_left_out_and_counted() {
    let shell = Shell::empty();
    let root = shell.path("src");
    make_tree(&root);
    std::os::unix::fs::symlink("/etc/passwd", root.join("link")).unwrap();
    let ran = put_tree(&shell, &root);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("1 links and special files"), "{}", ran.stderr);
    shell.run(&["stat", "tree", "link"]).expect_code(3);
}

#[test]
fn keys_that_leave_the_directory_are_refused_and_the_others_fetched() {
    let shell = Shell::with_blob(b"good");
    let out = shell.path("out/inner");
    let absolute = shell.path("absolute");
    let bad = ["../up", absolute.to_str().unwrap(), "a/../../up", "a//b", "./c"];
    for key in bad {
        shell.put("b", key, b"bad");
    }
    let refused = shell.run(&["get", "-r", "b", out.to_str().unwrap()]).expect_code(1).stderr;
    for key in bad {
        assert!(refused.contains(&format!("key '{key}'")), "{key}: {refused}");
    }
    assert!(refused.contains("5 blobs were not written"), "{refused}");
    let list = |path: &Path| fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(list(&out).collect::<Vec<_>>(), ["k"]);
    assert_eq!(list(&shell.path("out")).collect::<Vec<_>>(), ["inner"]);
    assert!(!absolute.exists());
}

#[test]
fn a_path_too_long_for_a_key_is_named() {
    let shell = Shell::empty();
    let root = shell.path("src");
    let below = ["d"; 5].map(|name| name.repeat(240)).join("/");
    fs::create_dir_all(root.join(&below)).unwrap();
    let file = root.join(&below).join("file");
    fs::write(&file, b"x").unwrap();
    let refused = put_tree(&shell, &root).expect_code(1).stderr;
    assert!(refused.contains(file.to_str().unwrap()), "{refused}");
    assert!(refused.contains("1 to 1024 bytes") && refused.contains("shorten it"), "{refused}");
}

#[test]
fn a_file_that_the_tiers_have_no_room_for_is_named() {
    let shell = Shell::empty();
    let root = shell.path("src");
    fs::create_dir(&root).unwrap();
    let file = root.join("sparse");
    File::create(&file).unwrap().set_len(100 << 20).unwrap();
    let refused = put_tree(&shell, &root).expect_code(1).stderr;
    assert!(refused.contains(file.to_str().unwrap()), "{refused}");
    assert!(refused.contains("no room") && refused.contains("add capacity"), "{refused}");
}
