//! Errors as logs show them, also for those who put a provider together.

use std::error::Error;

/// An error with its causes: only they say whether it is the address, the
/// certificate or the token. What a message repeats of its cause is not said twice.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
