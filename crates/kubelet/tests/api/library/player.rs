//! Plays a scene over SPDY, bare or in the tunnel.

use std::time::Duration;

use kubelet_streams::Event;
use kubelet_streams::remote::Kind;

use super::record::{Record, Seen};
use super::scene::{QUIET, Scene, Step};
use crate::dial::{Client, Opens};

pub struct Player<P: Opens> {
    client: Client<P>,
    record: Record,
    patience: Duration,
}

impl<P: Opens> Player<P> {
    pub fn new(client: Client<P>, scene: &Scene) -> Self {
        Self {
            client,
            record: Record::default(),
            patience: scene.patience,
        }
    }

    /// To the end of the steps.
    pub async fn play(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step).await;
        }
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Open(kind) => {
                self.open(kind, &[(Kind::HEADER, kind)]);
                self.until(|record| record.answered(kind)).await;
            }
            Step::Ask(name, headers) => {
                let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
                self.open(name, &headers);
                self.until(|record| record.answered(name)).await;
            }
            Step::Send(name, data) => {
                let stream = self.record.id(name).unwrap();
                let mut data = &data[..];
                while let Ok(sent @ 1..) = self.client.protocol.send(stream, data) {
                    data = &data[sent..];
                    self.client.flush().await;
                }
            }
            Step::Finish(name) => {
                let stream = self.record.id(name).unwrap();
                self.client.finish(stream).await;
            }
            Step::Hear(name, text) => {
                self.until(|record| record.said(name).ends_with(text.as_bytes()))
                    .await;
            }
            Step::End(name) => self.until(|record| record.ended(name)).await,
            Step::Frames(..) | Step::Bye => panic!("not over SPDY"),
        }
    }

    fn open(&mut self, name: &str, headers: &[(&str, &str)]) {
        let headers = headers.iter().copied().collect();
        let stream = self.client.protocol.open_stream(&headers);
        self.record.stream(stream, name);
    }

    async fn until(&mut self, enough: impl Fn(&Record) -> bool) {
        while !self.record.over() && !enough(&self.record) {
            let patience = match self.record.heard() {
                true => QUIET,
                false => self.patience,
            };
            match self.client.event_within(patience).await {
                Err(_) => self.record.end("stays as it is"),
                Ok(None) => self.record.end("hangs up"),
                Ok(Some(event)) => {
                    if let Event::Data { stream, data } = &event {
                        self.client.protocol.consumed(*stream, data.len());
                    }
                    self.record.event(&event);
                }
            }
        }
    }

    /// Until the server hangs up or nothing happens any more.
    pub async fn through(mut self) -> Seen {
        self.until(|_| false).await;
        self.record.seen()
    }

    /// As it is now.
    pub fn seen(self) -> Seen {
        self.record.seen()
    }
}
