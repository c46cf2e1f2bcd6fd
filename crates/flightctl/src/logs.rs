//! How logs look: text for people, or one JSON object a line with the names
//! users look for: `time`, `level`, `msg`, then the event's own fields
//! (`node`, `fleet`, `device`, `pod`, `operation` …).

use std::fmt;
use std::io::IsTerminal;

use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::LogFormat;

/// kube logs an answer that it cannot read, whole (`Client::request`): a list with
/// a Secret that a proxy has cut short. Whatever filter is asked for.
const QUOTES_ANSWERS: &str = "kube_client::client=error";

fn without_answers(filter: EnvFilter) -> EnvFilter {
    match QUOTES_ANSWERS.parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    }
}

/// Sends logs to standard error from now on; once in a process.
pub fn init(format: LogFormat, filter: EnvFilter) {
    let logs = tracing_subscriber::fmt()
        .with_env_filter(without_answers(filter))
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Json => logs.event_format(JsonLine).init(),
        LogFormat::Text => logs.with_ansi(std::io::stderr().is_terminal()).init(),
    }
}

/// One JSON object a line.
#[derive(Clone, Copy, Debug)]
struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut fields = Fields(Map::new());
        fields
            .0
            .insert("time".into(), Timestamp::now().to_string().into());
        fields.0.insert(
            "level".into(),
            metadata.level().as_str().to_lowercase().into(),
        );
        fields.0.insert("msg".into(), Value::Null);
        event.record(&mut fields);
        fields.0.insert("target".into(), metadata.target().into());
        writeln!(writer, "{}", Value::Object(fields.0))
    }
}

/// Collects an event's fields; its message is `msg`.
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        let name = if field.name() == "message" {
            "msg"
        } else {
            field.name()
        };
        self.0.insert(name.into(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::fmt::MakeWriter;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Kept {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn answers_that_kube_cannot_read_are_not_logged_whatever_is_asked_for() {
        for asked in ["warn", "trace", "kube_client=trace"] {
            let kept = Kept::default();
            let logs = tracing_subscriber::fmt()
                .with_env_filter(without_answers(EnvFilter::new(asked)))
                .with_writer(kept.clone())
                .finish();
            tracing::subscriber::with_default(logs, || {
                tracing::warn!(target: "kube_client::client", "an answer");
                tracing::error!(target: "kube_client::client", "a failure");
            });
            let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
            assert!(
                text.contains("a failure") && !text.contains("an answer"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_line_is_one_object_with_the_names_users_look_for() {
        let kept = Kept::default();
        let logs = tracing_subscriber::fmt()
            .with_writer(kept.clone())
            .event_format(JsonLine)
            .finish();
        tracing::subscriber::with_default(logs, || {
            tracing::warn!(device = "device-1", pod = %"default/a", count = 3, "a \"quoted\"\nmessage");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "warn");
        assert_eq!(line["msg"], "a \"quoted\"\nmessage");
        assert_eq!(line["device"], "device-1");
        assert_eq!(line["pod"], "default/a");
        assert_eq!(line["count"], 3);
        assert!(line["time"].is_string());
    }
}
