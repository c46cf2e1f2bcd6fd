//! The bearer token, and where a fresh one comes from.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use secrecy::SecretString;

/// There is no token to send.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("the Flight Control token file {path} cannot be read: {why}")]
    File {
        /// Its path.
        path: String,
        /// What happened.
        why: String,
    },
    /// The file holds no token.
    #[error("the Flight Control token file {path} has no token in it")]
    Empty {
        /// Its path.
        path: String,
    },
    /// The token cannot stand in a header.
    #[error("the Flight Control token has characters that no token has; check it for line breaks")]
    NotAHeader,
}

/// Where the token comes from; clones share what was read.
#[derive(Clone, Debug)]
pub struct TokenSource(Arc<Source>);

#[derive(Debug)]
enum Source {
    Fixed(SecretString),
    File {
        path: PathBuf,
        read: fn(&str) -> Option<String>,
        last: Mutex<Option<Read>>,
    },
}

#[derive(Debug)]
struct Read {
    modified: Option<SystemTime>,
    token: SecretString,
}

impl TokenSource {
    /// Always this token.
    pub fn fixed(token: &str) -> Self {
        Self(Arc::new(Source::Fixed(token.trim().to_owned().into())))
    }

    /// The content of a file, read again when it changes.
    pub fn file(path: PathBuf) -> Self {
        Self::read_by(path, |text| Some(text.trim().to_owned()))
    }

    /// The token of Flight Control's own `client.yaml`, read again when
    /// `flightctl login` writes it anew.
    pub fn client_config(path: PathBuf) -> Self {
        Self::read_by(path, crate::config::client_yaml::token)
    }

    fn read_by(path: PathBuf, read: fn(&str) -> Option<String>) -> Self {
        Self(Arc::new(Source::File {
            path,
            read,
            last: Mutex::default(),
        }))
    }

    /// The token to send now.
    ///
    /// # Errors
    /// There is none.
    pub fn current(&self) -> Result<SecretString, TokenError> {
        let (path, read, last) = match &*self.0 {
            Source::Fixed(token) => return Ok(token.clone()),
            Source::File { path, read, last } => (path, read, last),
        };
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        // One stat per request, on a file that is in memory anyway.
        let modified = std::fs::metadata(path).and_then(|m| m.modified()).ok();
        if let Some(known) = &*last
            && modified.is_some()
            && known.modified == modified
        {
            return Ok(known.token.clone());
        }
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| TokenError::File {
            path: shown.clone(),
            why: e.to_string(),
        })?;
        let token = read(&text)
            .filter(|t| !t.is_empty())
            .ok_or(TokenError::Empty { path: shown })?;
        let token = SecretString::from(token);
        *last = Some(Read {
            modified,
            token: token.clone(),
        });
        Ok(token)
    }

    /// The service did not take the token: a file is read again even if its
    /// time stamp did not change.
    pub fn refused(&self) {
        if let Source::File { last, .. } = &*self.0 {
            *last.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn a_file_is_read_again_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "one\n").unwrap();
        let source = TokenSource::file(path.clone());
        assert_eq!(source.current().unwrap().expose_secret(), "one");
        std::fs::write(&path, "two").unwrap();
        source.refused();
        assert_eq!(source.current().unwrap().expose_secret(), "two");
        std::fs::write(&path, "  \n").unwrap();
        source.refused();
        assert!(matches!(source.current(), Err(TokenError::Empty { .. })));
    }

    #[test]
    fn a_refused_token_is_read_again_whatever_the_files_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let at = SystemTime::UNIX_EPOCH;
        let write = |token: &str| {
            std::fs::write(&path, token).unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(at).unwrap();
        };
        write("one");
        let source = TokenSource::file(path.clone());
        assert_eq!(source.current().unwrap().expose_secret(), "one");
        write("two");
        assert_eq!(source.current().unwrap().expose_secret(), "one");
        source.refused();
        assert_eq!(source.current().unwrap().expose_secret(), "two");
    }

    #[test]
    fn a_missing_file_is_named() {
        let source = TokenSource::file("/nowhere/token".into());
        let error = source.current().unwrap_err().to_string();
        assert!(error.contains("/nowhere/token"), "{error}");
    }

    #[test]
    fn a_token_is_never_shown() {
        let shown = format!("{:?}", TokenSource::fixed("very-secret"));
        assert!(!shown.contains("very-secret"), "{shown}");
    }
}
