//! What clients do, whatever carries it.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// Where nothing more is to come; more than either takes for anything.
pub const QUIET: Duration = Duration::from_secs(8);

pub enum Step {
    /// Opens a stream of this type and waits for the answer.
    Open(&'static str),
    /// The same of one with these headers, called so.
    Ask(&'static str, Vec<(&'static str, String)>),
    Send(&'static str, Vec<u8>),
    Finish(&'static str),
    /// Waits until a stream has said this.
    Hear(&'static str, &'static str),
    /// Waits until a stream is through in the server's direction.
    End(&'static str),
    /// A message as it is, in one frame or several: over WebSocket alone.
    Frames(u8, Vec<Vec<u8>>),
    /// Says goodbye: over WebSocket alone.
    Bye,
}

pub struct Scene {
    pub name: &'static str,
    /// Of the request.
    pub query: String,
    pub steps: Vec<Step>,
    /// What the client must see of ours, lest both be wrong; `*` stands for anything.
    pub sees: &'static [(&'static str, &'static str)],
    /// Longest time without a word before it is told to stay so; behind the first one
    /// it is [`QUIET`].
    pub patience: Duration,
}

pub fn send(stream: &'static str, text: &str) -> Step {
    Step::Send(stream, text.into())
}

impl Scene {
    pub fn new(name: &'static str, query: String, steps: Vec<Step>) -> Self {
        Self {
            name,
            query,
            steps,
            sees: &[],
            patience: QUIET,
        }
    }

    pub fn sees(mut self, sees: &'static [(&'static str, &'static str)]) -> Self {
        self.sees = sees;
        self
    }

    /// Of exec, with the streams that `flags` ask for.
    pub fn exec(
        name: &'static str,
        flags: &'static str,
        command: &[&str],
        steps: Vec<Step>,
    ) -> Self {
        let words = command.iter().map(|word| {
            let word = utf8_percent_encode(word, NON_ALPHANUMERIC);
            format!("&command={word}")
        });
        let query = flags.to_owned() + &words.collect::<String>();
        Self::new(name, query, steps)
    }

    /// Whether the query has this.
    pub fn asks(&self, what: &str) -> bool {
        self.query.split('&').any(|part| part == what)
    }
}

/// What exec is on every transport; `halves` where a client can end its input alone,
/// `resizes` where it can tell the terminal's size.
pub fn all_execs(halves: bool, resizes: bool) -> Vec<Scene> {
    let script = |text: &'static str| ["sh", "-c", text];
    let mut scenes = vec![
        Scene::exec(
            "both outputs",
            "output=1&error=1",
            &script("printf out; printf err >&2"),
            vec![],
        )
        .sees(&[("stdout: said", "out"), ("stderr: said", "err")]),
        Scene::exec("a code", "output=1", &script("printf out; exit 42"), vec![])
            .sees(&[("stdout: said", "out"), ("error: said", "*code: 42*")]),
        Scene::exec("no such program", "output=1", &["no-such"], vec![]),
        Scene::exec(
            "much output",
            "output=1",
            &["head", "-c", "300000", "/dev/zero"],
            vec![],
        )
        .sees(&[("stdout: said", "300000 bytes, their sum 0")]),
        Scene::exec(
            "some input",
            "input=1&output=1",
            &["head", "-c", "5"],
            vec![send("stdin", "hel"), send("stdin", "lo")],
        )
        .sees(&[("stdout: said", "hello")]),
        Scene::exec(
            "input that is not read",
            "input=1&output=1",
            &["true"],
            vec![send("stdin", "hello")],
        ),
        Scene::exec("no output at all", "input=1", &["true"], vec![]),
        Scene::exec(
            "error output alone",
            "error=1",
            &script("echo x >&2"),
            vec![],
        )
        .sees(&[("stderr: said", "x\\n")]),
        Scene::exec(
            "a terminal",
            "input=1&output=1&error=1&tty=1",
            &script("test -t 0 && test -t 1 && test -t 2 && read x && echo $x; exit 5"),
            vec![send("stdin", "word\n")],
        )
        .sees(&[
            ("stdout: said", "word\\r\\nword\\r\\n"),
            ("error: said", "*code: 5*"),
        ]),
    ];
    if halves {
        scenes.push(
            Scene::exec(
                "the end of input",
                "input=1&output=1",
                &script("cat; echo end"),
                vec![send("stdin", "hello"), Step::Finish("stdin")],
            )
            .sees(&[("stdout: said", "helloend\\n")]),
        );
    }
    if resizes {
        let waits = "trap 'stty size; kill $!; exit 3' WINCH; sleep 1000 & echo ready; wait";
        scenes.push(
            Scene::exec(
                "a size",
                "output=1&tty=1",
                &script(waits),
                vec![
                    Step::Hear("stdout", "ready\r\n"),
                    send("resize", r#"{"Width":81,"Height":25}"#),
                ],
            )
            .sees(&[
                ("stdout: said", "ready\\r\\n25 81\\r\\n"),
                ("error: said", "*code: 3*"),
            ]),
        );
        scenes.push(
            Scene::exec(
                "no size",
                "input=1&output=1&tty=1",
                &script("echo ready; read x; exit 5"),
                vec![
                    send("resize", "nonsense"),
                    Step::Hear("stdout", "ready\r\n"),
                    send("stdin", "\n"),
                ],
            )
            .sees(&[
                ("stdout: said", "ready\\r\\n\\r\\n"),
                ("error: said", "*code: 5*"),
            ]),
        );
    }
    scenes
}
