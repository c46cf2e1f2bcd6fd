//! Where we differ from a kubelet on purpose.

/// In every text but `why`, `*` stands for anything.
#[derive(Debug)]
pub struct Difference {
    /// `TRANSPORT PROTOCOL, SCENE`.
    pub scenes: &'static str,
    pub why: &'static str,
    /// What differs: the line, ours, theirs.
    pub lines: &'static [Line],
    /// What need not differ each time.
    pub sometimes: &'static [Line],
}

pub type Line = (&'static str, &'static str, &'static str);

pub const DIFFERENCES: &[Difference] = &[
    Difference {
        scenes: "answers, no upgrade",
        why: "a kubelet's proxy calls it its own error; it is the client's",
        lines: &[("status", "400", "500")],
        sometimes: &[],
    },
    Difference {
        scenes: "answers, no protocol",
        why: "their header is there and empty, which names none: RFC 6455 leaves it out",
        lines: &[("protocol", "nothing", "")],
        sometimes: &[],
    },
    Difference {
        scenes: "answers, an unknown protocol",
        why: "over WebSocket theirs does not tell what it would speak",
        lines: &[("versions", "*v5.channel.k8s.io", "nothing")],
        sometimes: &[],
    },
    Difference {
        scenes: "answers, a tunnel to nothing",
        why: "theirs tells what the tunnel may carry, not what to ask for",
        lines: &[(
            "versions",
            "SPDY/3.1+portforward.k8s.io, *",
            "portforward.k8s.io",
        )],
        sometimes: &[],
    },
    Difference {
        scenes: "SPDY *",
        why: "theirs resets every stream at the end; Go's client reads either as the end, others \
              need not take a reset for success",
        lines: &[("*: ended", "finished", "reset")],
        sometimes: &[],
    },
    Difference {
        scenes: "SPDY *, no such program",
        why: "the backend's words instead of the runtime's",
        lines: &[(
            "error: said",
            "*no-such* could not be started: there is no such program*",
            "*Internal error occurred: error executing command in container: *no-such: no such file*",
        )],
        sometimes: &[],
    },
    Difference {
        scenes: "SPDY channel.k8s.io, *",
        why: "theirs resets the error stream before the command begins, as it did in Kubernetes \
              1.0, so that nobody learns of a failure",
        lines: &[("error: said", "*", ""), ("comes last", "the outcome", "*")],
        sometimes: &[],
    },
    Difference {
        scenes: "SPDY *, a type nobody knows",
        why: "theirs accepts the stream and ignores it: what is not supported is refused",
        lines: &[
            ("colour: opened", "refused", "accepted"),
            ("colour: ended", "left open", "reset"),
        ],
        sometimes: &[],
    },
    Difference {
        scenes: "SPDY *, a second stream of a type",
        why: "theirs counts it for the one that is missing, begins without that and uses the \
              second one",
        lines: &[
            ("second stdout: opened", "refused", "accepted"),
            ("second stdout: said", "", "out"),
            ("second stdout: ended", "left open", "reset"),
            ("stdout: said", "out", ""),
            ("stderr: opened", "accepted", "unanswered"),
            ("stderr: said", "err", ""),
            ("stderr: ended", "finished", "left open"),
        ],
        sometimes: &[("end", "goodbye, hangs up", "goodbye, stays as it is")],
    },
    Difference {
        scenes: "SPDY *, a stream that was not asked for",
        why: "theirs counts it for the one that is missing and begins without that",
        lines: &[
            ("stderr: opened", "refused", "accepted"),
            ("stderr: ended", "left open", "reset"),
            ("stdout: opened", "accepted", "unanswered"),
            ("stdout: said", "out", ""),
            ("stdout: ended", "finished", "left open"),
            ("comes last", "output", "nothing"),
        ],
        sometimes: &[("end", "goodbye, hangs up", "goodbye, stays as it is")],
    },
    Difference {
        scenes: "SPDY *, a stream that is missing",
        why: "theirs gives up after as long, without a word and without hanging up",
        lines: &[
            (
                "error: said",
                "*the client did not create its streams within 30 s*",
                "",
            ),
            ("*: ended", "finished", "left open"),
            ("comes last", "the outcome", "nothing"),
            ("end", "goodbye, hangs up", "stays as it is"),
        ],
        sometimes: &[],
    },
    Difference {
        scenes: "WebSocket v5.channel.k8s.io, *",
        why: "a kubelet reads the outcome of its runtime and writes it anew, with metadata of \
              nothing and in other words",
        lines: &[
            (
                "error: said",
                r#"{"status":"Success"}"#,
                r#"{"metadata":{},"status":"Success"}"#,
            ),
            (
                "error: said",
                r#"{"details":{"causes":[{"message":"*","reason":"ExitCode"}]},"message":"command terminated with non-zero exit code: *","reason":"NonZeroExitCode","status":"Failure"}"#,
                r#"{"details":{"causes":[{"message":"*","reason":"ExitCode"}]},"message":"command terminated with non-zero exit code: *","metadata":{},"reason":"NonZeroExitCode","status":"Failure"}"#,
            ),
        ],
        sometimes: &[],
    },
    Difference {
        scenes: "WebSocket*, no such program",
        why: "the backend's words instead of the runtime's",
        lines: &[(
            "error: said",
            "*no-such* could not be started: there is no such program*",
            "*nternal error occurred: error executing command in container: *no-such: no such file*",
        )],
        sometimes: &[],
    },
    Difference {
        scenes: "WebSocket*, a message in two frames",
        why: "theirs takes each frame for a message",
        lines: &[("stdout: said", "hello", "helhe")],
        sometimes: &[],
    },
    Difference {
        scenes: "WebSocket v5.channel.k8s.io, a CLOSE of *",
        why: "a client that breaks the protocol is told so (1002), not that all is well (1000)",
        lines: &[("goodbye", r"\x03\xea", r"\x03\xe8")],
        sometimes: &[],
    },
    Difference {
        scenes: "WebSocket *base64.channel.k8s.io, no base64",
        why: "theirs drops what it cannot read and goes on without it",
        lines: &[
            ("goodbye", r"\x03\xea", r"\x03\xe8"),
            ("stdout: said", "", "world"),
            ("error: said", "", r#"{"status":"Success"}"#),
            ("comes last", "nothing", "*"),
        ],
        sometimes: &[],
    },
    Difference {
        scenes: "forward *, a port nobody listens on",
        why: "the pod as the kubelet names it to its runtime, and the backend's words instead of \
              the runtime's",
        lines: &[(
            "error: said",
            "error forwarding port * to pod web_default, uid *: *onnection refused*",
            "error forwarding port * to pod web, uid : *onnection refused",
        )],
        sometimes: &[],
    },
    Difference {
        scenes: "forward *, a port nobody listens on",
        why: "a stream that told all it had to tell ends, one that is cut off is reset; theirs \
              is the other way round, and its client takes either for the end",
        lines: &[
            ("data: ended", "reset", "finished"),
            ("error: ended", "finished", "reset"),
        ],
        sometimes: &[],
    },
    Difference {
        scenes: "forward *, a second error stream",
        why: "the stream that is one too many is refused; theirs tells the first one, whose \
              connection then works",
        lines: &[
            (
                "error: said",
                "",
                "error processing stream for request 1: error stream already assigned",
            ),
            ("second: ended", "reset", "left open"),
        ],
        sometimes: &[],
    },
    Difference {
        scenes: "forward *, an error stream alone",
        why: "both give up after as long; theirs with an address in its own memory, and without \
              ending the stream",
        lines: &[
            (
                "error: said",
                "request 1: no data stream came within 30 s",
                "(conn=*, request=1) timed out waiting for streams",
            ),
            ("error: ended", "finished", "left open"),
            ("end", "goes on", "stays as it is"),
        ],
        sometimes: &[],
    },
    Difference {
        scenes: "channels*, a port nobody listens on",
        why: "as without channels",
        lines: &[(
            "error: said",
            "*error forwarding port * to pod web_default, uid *: *onnection refused*",
            "*error forwarding port * to pod web, uid : *onnection refused",
        )],
        sometimes: &[],
    },
];
