//! Values from literals, ConfigMaps and Secrets: the kubelet's cases, its words
//! where something is missing, and that secrets do not show.

use super::*;

#[test]
fn values_see_what_came_before_them_and_nothing_else() {
    let case = case(
        "test1",
        false,
        json!({"env": [
            {"name": "TEST_LITERAL", "value": "test-test-test"},
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
            {"name": "OUT_OF_ORDER_TEST", "value": "$(OUT_OF_ORDER_TARGET)"},
            {"name": "OUT_OF_ORDER_TARGET", "value": "FOO"},
            {"name": "EMPTY_VAR"},
            {"name": "EMPTY_TEST", "value": "foo-$(EMPTY_VAR)"},
            {"name": "POD_NAME_TEST2", "value": "test2-$(POD_NAME)"},
            {"name": "POD_NAME_TEST3", "value": "$(POD_NAME_TEST2)-3"},
            {"name": "LITERAL_TEST", "value": "literal-$(TEST_LITERAL)"},
            {"name": "TEST_UNDEFINED", "value": "$(UNDEFINED_VAR)"},
        ]}),
    );
    assert_eq!(
        case.pairs(),
        owned(&[
            ("TEST_LITERAL", "test-test-test"),
            ("POD_NAME", "dapi-test-pod-name"),
            ("OUT_OF_ORDER_TEST", "$(OUT_OF_ORDER_TARGET)"),
            ("OUT_OF_ORDER_TARGET", "FOO"),
            ("EMPTY_VAR", ""),
            ("EMPTY_TEST", "foo-"),
            ("POD_NAME_TEST2", "test2-dapi-test-pod-name"),
            ("POD_NAME_TEST3", "test2-dapi-test-pod-name-3"),
            ("LITERAL_TEST", "literal-test-test-test"),
            ("TEST_UNDEFINED", "$(UNDEFINED_VAR)"),
        ])
    );
}

#[test]
fn env_goes_before_env_from_and_prefixes_are_put_before_keys() {
    for kind in ["configMapRef", "secretRef"] {
        let name = if kind == "secretRef" { "hush" } else { "map" };
        let case = case(
            "test1",
            false,
            json!({
                "envFrom": [{kind: {"name": name}}, {"prefix": "1_", kind: {"name": name}}],
                "env": [
                    {"name": "TEST_LITERAL", "value": "test-test-test"},
                    {"name": "EXPANSION_TEST", "value": "$(REPLACE_ME)"},
                    {"name": "DUPE_TEST", "value": "ENV_VAR"},
                ],
            }),
        )
        .map(&json!({"REPLACE_ME": "OURS", "DUPE_TEST": "THEIRS"}))
        .secret(&[("REPLACE_ME", b"OURS"), ("DUPE_TEST", b"THEIRS")]);
        assert_eq!(
            case.pairs(),
            owned(&[
                ("DUPE_TEST", "ENV_VAR"),
                ("REPLACE_ME", "OURS"),
                ("1_DUPE_TEST", "THEIRS"),
                ("1_REPLACE_ME", "OURS"),
                ("TEST_LITERAL", "test-test-test"),
                ("EXPANSION_TEST", "OURS"),
            ]),
            "{kind}"
        );
    }
}

#[test]
fn of_two_env_from_the_later_wins_and_values_of_objects_are_not_expanded() {
    let case = case(
        "n",
        false,
        json!({
            "envFrom": [{"secretRef": {"name": "hush"}}, {"configMapRef": {"name": "map"}}],
            "env": [{"name": "A", "value": "$(A)!"}, {"name": "A", "value": "$(A)!"}],
        }),
    )
    .map(&json!({"A": "$(B)", "1234.name": "abc"}))
    .secret(&[("A", b"secret"), ("B", b"b")]);
    assert_eq!(
        case.pairs(),
        owned(&[("A", "$(B)!!"), ("B", "b"), ("1234.name", "abc")])
    );
}

#[test]
fn names_that_no_environment_holds_are_left_out_and_told_in_the_kubelets_words() {
    let case = case(
        "test",
        false,
        json!({"envFrom": [
            {"prefix": "p=", "configMapRef": {"name": "map"}},
            {"prefix": "é", "secretRef": {"name": "hush"}},
            {"configMapRef": {"name": "map"}},
        ]}),
    )
    .map(&json!({"1z": "abc", "1234": "abc"}))
    .secret(&[("s", b"abc")]);
    let got = case.run().unwrap();
    assert_eq!(
        got.skipped(),
        [
            "Keys [p=1234, p=1z] from the EnvFrom configMap test/map were skipped since they are \
         considered invalid environment variable names.",
            "Keys [és] from the EnvFrom secret test/hush were skipped since they are considered \
         invalid environment variable names.",
        ]
    );
    assert_eq!(case.pairs(), owned(&[("1234", "abc"), ("1z", "abc")]));
    assert_eq!(
        Environment::SKIPPED_REASON,
        "InvalidEnvironmentVariableNames"
    );
}

fn from(kind: &str, name: &str, optional: bool) -> Value {
    json!({"envFrom": [{kind: {"name": name, "optional": optional}}]})
}

fn key(kind: &str, name: &str, optional: bool) -> Value {
    one(
        "X",
        &json!({kind: {"name": name, "key": "k", "optional": optional}}),
    )
}

#[test]
fn what_is_missing_is_told_in_the_kubelets_words_and_optional_leaves_it_out() {
    for (make, kind, name, words) in [
        (
            from as fn(&str, &str, bool) -> Value,
            "configMapRef",
            "gone",
            "configmap \"gone\" not found",
        ),
        (from, "secretRef", "gone", "secret \"gone\" not found"),
        (
            key,
            "configMapKeyRef",
            "gone",
            "configmap \"gone\" not found",
        ),
        (key, "secretKeyRef", "gone", "secret \"gone\" not found"),
        (
            key,
            "configMapKeyRef",
            "map",
            "couldn't find key k in ConfigMap ns/map",
        ),
        (
            key,
            "secretKeyRef",
            "hush",
            "couldn't find key k in Secret ns/hush",
        ),
    ] {
        let case = |optional| {
            let case = case("ns", false, make(kind, name, optional));
            case.map(&json!({"other": ""})).secret(&[("other", b"")])
        };
        assert_eq!(case(false).words(), words, "{kind}");
        assert_eq!(case(true).pairs(), [], "{kind} {name}");
    }
    assert_eq!(EnvironmentError::REASON, "CreateContainerConfigError");
}

#[test]
fn an_optional_key_that_is_missing_leaves_what_env_from_set() {
    let case = case("ns", false, json!({
        "envFrom": [{"configMapRef": {"name": "map"}}],
        "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "k", "optional": true}}}],
    }))
    .map(&json!({"X": "kept"}));
    assert_eq!(case.pairs(), owned(&[("X", "kept")]));
}

#[test]
fn keys_of_objects_become_values_and_only_data_counts() {
    let mut case = case("ns", false, json!({"env": [
        {"name": "M", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "k"}}},
        {"name": "S", "value": "", "valueFrom": {"secretKeyRef": {"name": "hush", "key": "k"}}},
        {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "b", "optional": true}}},
        {"name": "N", "valueFrom": {}},
    ]}))
    .map(&json!({"k": "$(M)"}))
    .secret(&[("k", b"s")]);
    let binary = [("b".to_owned(), k8s_openapi::ByteString(b"b".to_vec()))];
    let map = case.inputs.config_maps.get_mut("map").unwrap();
    Arc::make_mut(map).binary_data = Some(binary.into());
    assert_eq!(case.pairs(), owned(&[("M", "$(M)"), ("S", "s"), ("N", "")]));
}

#[test]
fn a_value_goes_before_a_source() {
    let both = json!({"name": "X", "value": "text", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}});
    let case = case("ns", false, json!({"env": [both]}));
    assert_eq!(case.pairs(), owned(&[("X", "text")]));
}

#[test]
fn a_file_as_source_is_refused_by_the_name_of_its_variable() {
    let source = json!({"fileKeyRef": {
        "volumeName": "config-volume", "path": "a.env", "key": "K", "optional": true,
    }});
    let words = case("ns", false, one("DATABASE", &source)).words();
    assert!(
        words.starts_with("environment variable DATABASE: fileKeyRef"),
        "{words}"
    );
}

#[test]
fn nothing_of_ours_shows_a_secret() {
    let case = case(
        "ns",
        false,
        json!({
            "envFrom": [{"secretRef": {"name": "hush"}}],
            "env": [{"name": "COPY", "value": "x$(PASSWORD)x"}],
            "command": ["run", "$(PASSWORD)"],
        }),
    )
    .map(&json!({"k": "planted-map"}))
    .secret(&[("PASSWORD", b"planted-secret")]);
    let got = case.run().unwrap();
    let line = got.command_line(&case.container).unwrap();
    assert_eq!(*line.command, ["run", "planted-secret"]);
    let shown = format!("{got:?} {:?} {line:?} {:?}", got.variables(), case.inputs);
    assert!(!shown.contains("planted"), "{shown}");
    assert!(
        shown.contains("PASSWORD") && shown.contains("hush"),
        "{shown}"
    );

    let not_text = case.secret(&[("PASSWORD", b"planted-secret\xff")]);
    let error = not_text.run().unwrap_err();
    assert!(!format!("{error} {error:?}").contains("planted"));
}

#[test]
fn what_a_container_is_started_with_is_wiped_when_it_goes() {
    let from = json!({"envFrom": [{"secretRef": {"name": "hush"}}], "args": ["$(PASSWORD)"]});
    let case = case("n", false, from).secret(&[("PASSWORD", b"planted-secret")]);
    let mut got = case.run().unwrap();
    let mut line = got.command_line(&case.container).unwrap();
    // The types that do it on drop; what they do to each, by hand.
    let variables: &mut Zeroizing<Vec<EnvVar>> = &mut got.variables;
    variables.iter_mut().for_each(Zeroize::zeroize);
    let words: [&mut Zeroizing<Vec<String>>; 2] = [&mut line.command, &mut line.args];
    for words in words {
        words.iter_mut().for_each(Zeroize::zeroize);
    }
    assert_eq!(got.get("PASSWORD"), Some(""));
    assert_eq!(*line.args, [""]);
}

#[test]
fn what_comes_from_a_secret_is_known_by_it_however_it_comes() {
    let case = case(
        "test1",
        false,
        json!({
            "envFrom": [{"configMapRef": {"name": "map"}}, {"secretRef": {"name": "hush"}}],
            "env": [
                {"name": "LITERAL", "value": "text"},
                {"name": "NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
                {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "hush", "key": "word"}}},
                {"name": "URL", "value": "db://user:$(PASSWORD)@$(host)"},
                {"name": "AGAIN", "value": "$(URL)"},
                {"name": "QUOTED", "value": "$$(PASSWORD) $(UNKNOWN)"},
                {"name": "ADDRESS", "value": "$(host):$(LITERAL)"},
                {"name": "word", "value": "overwritten"},
            ],
        }),
    )
    .map(&json!({"host": "db", "word": "of the map"}))
    .secret(&[("word", b"hunter2"), ("other", b"hunter3")]);
    let environment = case.run().unwrap();
    let of = |name: &str| {
        let mut all = environment.variables().iter();
        all.find(|v| v.name == name).unwrap().origin
    };
    for name in ["other", "PASSWORD", "URL", "AGAIN"] {
        assert_eq!(of(name), Origin::Secret, "{name}");
    }
    for name in ["host", "ADDRESS"] {
        assert_eq!(of(name), Origin::Object, "{name}");
    }
    for name in ["LITERAL", "NAME", "QUOTED", "word"] {
        assert_eq!(of(name), Origin::Pod, "{name}");
    }
    for (text, origin) in [
        ("--url=$(AGAIN)", Origin::Secret),
        ("$(LITERAL)$(ADDRESS)", Origin::Object),
        ("$$(AGAIN) $(word) $AGAIN", Origin::Pod),
    ] {
        assert_eq!(environment.origin(text), origin, "{text}");
    }
}
