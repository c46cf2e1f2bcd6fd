//! JSON that may hold what a Secret holds.

use std::fmt;
use std::io;
use std::ops::Deref;

use bytes::Bytes;
use serde_json::Value;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A JSON value whose texts are wiped on drop, and which `Debug` does not show.
#[derive(Clone, PartialEq)]
pub(crate) struct Private(Zeroizing<Bare>);

#[derive(Clone, PartialEq)]
struct Bare(Value);

impl Zeroize for Bare {
    fn zeroize(&mut self) {
        wipe(&mut self.0);
    }
}

/// Every text; the names of members are nobody's secret.
fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(all) => all.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl ZeroizeOnDrop for Private {}

impl From<Value> for Private {
    fn from(value: Value) -> Self {
        Self(Bare(value).into())
    }
}

impl Deref for Private {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.0.0
    }
}

impl fmt::Debug for Private {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// A value as JSON, for the body of a request. It is written in one piece and wiped
/// when the last that holds it goes.
pub(crate) fn text(value: &Value) -> Bytes {
    // One that grew would leave copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(length(value)));
    // A value is always JSON, and memory takes it.
    let _ = serde_json::to_writer(&mut *text, value);
    Bytes::from_owner(text)
}

/// How long a value is as JSON, without writing it anywhere.
pub(crate) fn length(value: &Value) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // A value is always JSON, and counting does not fail.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn planted() -> Value {
        json!([{"op": "add", "value": {"inline": [{"content": "s3cret", "mode": 420}]}}, "s3cret"])
    }

    #[test]
    fn every_text_is_wiped_when_it_goes_and_debug_shows_none() {
        let mut private = Private::from(planted());
        assert_eq!(format!("{private:?}"), "(hidden)");
        // The type that does it on drop; what it does then, by hand.
        let holder: &mut Zeroizing<Bare> = &mut private.0;
        holder.zeroize();
        let wiped = json!([{"op": "", "value": {"inline": [{"content": "", "mode": 420}]}}, ""]);
        assert_eq!(*private, wiped);
    }

    #[test]
    fn a_text_is_written_in_one_piece() {
        let value = planted();
        assert_eq!(text(&value), value.to_string());
        assert_eq!(length(&value), value.to_string().len());
    }
}
