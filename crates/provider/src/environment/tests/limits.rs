//! Command lines and paths made of variables, and what no process can be given.

use super::super::variables::{MAX_STRING, MAX_TOTAL};
use super::*;

#[test]
fn command_and_args_see_all_variables_and_those_of_services() {
    let case = case(
        "n",
        true,
        json!({
            "command": ["$(A)", "$$(A)", "$(NO)"],
            "args": ["--to=$(WEB_SERVICE_HOST)", "$(LATE)"],
            "env": [{"name": "A", "value": "a"}, {"name": "LATE", "value": "$$(A)"}],
        }),
    )
    .service("n", "web", "10.0.0.1", 80);
    let line = case.run().unwrap().command_line(&case.container).unwrap();
    assert_eq!(*line.command, ["a", "$(A)", "$(NO)"]);
    assert_eq!(*line.args, ["--to=10.0.0.1", "$(A)"]);
    let none = Container::default();
    let line = case.run().unwrap().command_line(&none).unwrap();
    assert_eq!(line, CommandLine::default());
}

#[test]
fn a_path_of_variables_needs_a_value_for_each() {
    let case = case(
        "n",
        false,
        json!({"env": [
            {"name": "POD", "value": "p"}, {"name": "EMPTY"},
        ]}),
    );
    let got = case.run().unwrap();
    assert_eq!(got.sub_path("$(POD)/$$x").unwrap(), "p/$x");
    let words = got
        .sub_path("$(NO)/$(EMPTY)/$(NO)")
        .unwrap_err()
        .to_string();
    assert_eq!(words, "missing value for EMPTY, NO");
}

#[test]
fn values_made_of_values_stop_before_memory_does() {
    let double = |i: usize| json!({"name": format!("V{i}"), "value": format!("$(V{p})$(V{p})", p = i.max(1) - 1)});
    let mut env = vec![json!({"name": "V0", "value": "12345678"})];
    env.extend((1..60).map(double));
    let case = case("n", false, json!({"env": env}));
    assert_eq!(
        case.words(),
        "environment variable V14 is longer than the 131072 bytes that Linux hands to a process"
    );
}

#[test]
fn a_variable_of_the_longest_length_passes_and_one_byte_more_does_not() {
    let fits = "x".repeat(MAX_STRING - "A=\0".len());
    let at = |value: &str| case("n", false, json!({"env": [{"name": "A", "value": value}]}));
    assert_eq!(at(&fits).pairs(), owned(&[("A", &fits)]));
    let error = at(&format!("{fits}x")).run().unwrap_err();
    assert_eq!(
        error,
        EnvironmentError::TooLong("environment variable A".into())
    );
}

#[test]
fn all_variables_and_all_words_have_a_limit_together() {
    let long = "x".repeat(MAX_STRING / 2);
    let many = MAX_TOTAL / long.len();
    let mut env = vec![json!({"name": "A", "value": long})];
    env.extend((0..many).map(|i| json!({"name": format!("B{i}"), "value": "$(A)"})));
    let all = case("n", false, json!({"env": env.clone()}));
    let error = all.run().unwrap_err();
    assert_eq!(error, EnvironmentError::TooMuch("environment variables"));

    for variable in &mut env {
        variable["name"] = "A".into();
    }
    let same = case(
        "n",
        false,
        json!({"env": env, "args": vec!["$(A)"; many + 1]}),
    );
    let got = same.run().unwrap();
    let error = got.command_line(&same.container).unwrap_err();
    assert_eq!(error, EnvironmentError::TooMuch("command and args"));
}

#[test]
fn bytes_that_are_no_text_are_refused_by_the_name_of_the_variable() {
    let from = json!({"envFrom": [{"secretRef": {"name": "hush"}}]});
    let error = EnvironmentError::NotText("environment variable X".into());
    for value in [&b"a\xff"[..], b"a\0b"] {
        let all = case("n", false, from.clone()).secret(&[("X", value)]);
        assert_eq!(all.run().unwrap_err(), error);
        let key = one("X", &json!({"secretKeyRef": {"name": "hush", "key": "X"}}));
        let one = case("n", false, key).secret(&[("X", value)]);
        assert_eq!(one.run().unwrap_err(), error);
    }
    let line = case("n", false, json!({"command": ["a\0b"]}));
    let got = line.run().unwrap().command_line(&line.container);
    assert_eq!(
        got.unwrap_err(),
        EnvironmentError::NotText("command".into())
    );
}
