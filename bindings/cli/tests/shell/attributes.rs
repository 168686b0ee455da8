//! `attr`.

use crate::support::Shell;

#[test]
fn attributes_are_set_read_listed_and_removed() {
    let shell = Shell::with_blob(b"value");
    for (name, value) in [("n", "-7"), ("half", "0.5"), ("text", "a\nb")] {
        shell.run(&["attr", "set", "b", "k", name, value]).expect_code(0);
    }
    assert_eq!(shell.run(&["attr", "get", "b", "k", "n"]).expect_code(0).text(), "-7\n");
    let listed = shell.run(&["attr", "ls", "b", "k"]).expect_code(0).text();
    assert_eq!(listed, "half  0.5\nn  -7\ntext  a\\x0ab\n");
    shell.run(&["attr", "rm", "b", "k", "n", "text", "never"]).expect_code(0);
    assert_eq!(shell.run(&["attr", "ls", "b", "k"]).expect_code(0).text(), "half  0.5\n");
    assert_eq!(shell.run(&["get", "b", "k"]).expect_code(0).stdout, b"value");
}

#[test]
fn what_is_not_there_and_what_cannot_be_has_its_exit_code() {
    let shell = Shell::with_blob(b"value");
    shell.run(&["attr", "get", "b", "k", "none"]).expect_code(3);
    shell.run(&["attr", "set", "b", "gone", "n", "1"]).expect_code(3);
    shell.run(&["attr", "set", "b", "k", "", "1"]).expect_code(2);
    shell.run(&["attr", "set", "b", "k", "n", "x", "--type", "int"]).expect_code(2);
    shell.run(&["attr", "set", "b", "k", "n", "nan", "--type", "float"]).expect_code(2);
}
