//! What a client saw of a session.

use std::collections::BTreeMap;

use kubelet_streams::Event;
use kubelet_streams::spdy::frame::StreamId;
use serde_json::Value;

/// Line by line: what, and how it was.
pub type Seen = BTreeMap<String, String>;

/// Longer data is told by its length.
const SHOWN: usize = 1000;

#[derive(Default)]
pub struct Record {
    streams: Vec<Stream>,
    /// Whether the last data was the outcome's.
    last: Option<&'static str>,
    goodbye: bool,
    end: Option<&'static str>,
    more: Seen,
}

struct Stream {
    id: StreamId,
    name: String,
    opened: &'static str,
    said: Vec<u8>,
    ended: &'static str,
}

impl Record {
    pub fn stream(&mut self, id: StreamId, name: &str) {
        self.streams.push(Stream {
            id,
            name: name.into(),
            opened: "unanswered",
            said: Vec::new(),
            ended: "left open",
        });
    }

    pub fn id(&self, name: &str) -> Option<StreamId> {
        let stream = self.streams.iter().find(|stream| stream.name == name);
        stream.map(|stream| stream.id)
    }

    pub fn answered(&self, name: &str) -> bool {
        self.named(name).opened != "unanswered"
    }

    pub fn ended(&self, name: &str) -> bool {
        self.named(name).ended != "left open"
    }

    pub fn said(&self, name: &str) -> &[u8] {
        &self.named(name).said
    }

    pub fn heard(&self) -> bool {
        self.last.is_some()
    }

    pub fn over(&self) -> bool {
        self.end.is_some()
    }

    pub fn end(&mut self, how: &'static str) {
        self.end = Some(how);
    }

    /// Something else.
    pub fn line(&mut self, what: &str, how: impl Into<String>) {
        self.more.insert(what.into(), how.into());
    }

    pub fn data(&mut self, id: StreamId, data: &[u8]) {
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id) else {
            return self.line("data of nobody", id.to_string());
        };
        stream.said.extend_from_slice(data);
        if !data.is_empty() {
            self.last = Some(match stream.name == "error" {
                true => "the outcome",
                false => "output",
            });
        }
    }

    /// Of messages the first one is told: it says that the session has begun.
    pub fn first(&mut self, id: StreamId, empty: bool) {
        let of = self.streams.iter().find(|stream| stream.id == id);
        let of = of.map_or("nobody", |stream| &stream.name);
        let how = format!("of {of}{}", if empty { ", empty" } else { "" });
        self.more.entry("first message".into()).or_insert(how);
    }

    pub fn event(&mut self, event: &Event) {
        let (of, set): (_, fn(&mut Stream)) = match event {
            Event::Data { stream, data } => return self.data(*stream, data),
            Event::GoAway | Event::Closed => return self.goodbye = true,
            Event::Accepted { stream } => (stream, |stream| stream.opened = "accepted"),
            Event::Finished { stream } => (stream, |stream| stream.end("finished")),
            Event::Reset { stream, .. } => (stream, |stream| match stream.opened {
                "unanswered" => stream.opened = "refused",
                _ => stream.end("reset"),
            }),
            _ => return,
        };
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == *of) {
            set(stream);
        }
    }

    pub fn seen(mut self) -> Seen {
        for stream in &self.streams {
            let line = |what: &str| format!("{}: {what}", stream.name);
            self.more.insert(line("opened"), stream.opened.into());
            self.more.insert(line("said"), shown(&stream.said));
            self.more.insert(line("ended"), stream.ended.into());
        }
        let last = self.last.unwrap_or("nothing");
        self.more.insert("comes last".into(), last.into());
        let goodbye = if self.goodbye { "goodbye, " } else { "" };
        let end = format!("{goodbye}{}", self.end.unwrap_or("goes on"));
        self.more.insert("end".into(), end);
        self.more
    }

    fn named(&self, name: &str) -> &Stream {
        let stream = self.streams.iter().find(|stream| stream.name == name);
        stream.unwrap_or_else(|| panic!("no stream {name}"))
    }
}

impl Stream {
    /// The first end counts.
    fn end(&mut self, how: &'static str) {
        if self.ended == "left open" {
            self.ended = how;
        }
    }
}

/// In an order that does not depend on the writer where it is JSON.
fn shown(bytes: &[u8]) -> String {
    if bytes.len() > SHOWN {
        let sum: u64 = bytes.iter().map(|byte| u64::from(*byte)).sum();
        return format!("{} bytes, their sum {sum}", bytes.len());
    }
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value @ Value::Object(_)) => value.to_string(),
        _ => bytes.escape_ascii().to_string(),
    }
}
