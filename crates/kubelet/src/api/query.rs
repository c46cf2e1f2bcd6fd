//! Queries of requests. Pure.

use percent_encoding::percent_decode_str;

/// Names and values in order. Parts that cannot be decoded are read as far as they
/// can.
pub(super) fn pairs(query: &str) -> Vec<(String, String)> {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    raw(query)
        .map(|(name, value)| (text(name), text(value)))
        .collect()
}

/// A value is no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoText;

/// All values of this name, to the letter.
pub(super) fn values(query: &str, name: &str) -> Result<Vec<String>, NoText> {
    raw(query)
        .filter(|(of, _)| of == name.as_bytes())
        .map(|(_, value)| String::from_utf8(value).map_err(|_| NoText))
        .collect()
}

fn raw(query: &str) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let decode = |text: &str| -> Vec<u8> {
        let spaced = text.replace('+', " ");
        percent_decode_str(&spaced).collect()
    };
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts.map(move |part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decode(name), decode(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_order_and_every_byte_or_are_refused() {
        let query = "command=sh&x=1&command=-c&command=a+b%20%26+%2B%0A&command=&input=1";
        let command = values(query, "command").unwrap();
        assert_eq!(command, ["sh", "-c", "a b & +\n", ""]);
        assert_eq!(values(query, "cmd"), Ok(Vec::new()));
        assert_eq!(values("command=%FF", "command"), Err(NoText));
        assert_eq!(
            pairs("a=%FF&b"),
            [
                ("a".to_owned(), "\u{fffd}".to_owned()),
                ("b".to_owned(), String::new()),
            ]
        );
    }
}
