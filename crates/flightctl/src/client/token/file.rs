//! A token in a file, such as a mounted Secret or a projected ServiceAccount
//! token, which the kubelet replaces before it runs out.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use secrecy::SecretString;

use super::TokenError;

/// The file, and what was in it.
#[derive(Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    last: Mutex<Option<Read>>,
}

#[derive(Debug)]
struct Read {
    modified: Option<SystemTime>,
    token: SecretString,
}

impl TokenFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            last: Mutex::default(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The token in it, read again when the file has changed.
    pub(super) fn current(&self) -> Result<SecretString, TokenError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let modified = modified(&self.path);
        if let Some(known) = &*last
            && modified.is_some()
            && known.modified == modified
        {
            return Ok(known.token.clone());
        }
        let text = read(&self.path)?;
        let token = text.trim();
        if token.is_empty() {
            let path = self.path.display().to_string();
            return Err(TokenError::Empty { path });
        }
        let token = SecretString::from(token);
        *last = Some(Read {
            modified,
            token: token.clone(),
        });
        Ok(token)
    }

    /// It is read again, whatever its time stamp says.
    pub(super) fn forget(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// When the file was written. One stat per request, on a file that is in memory
/// anyway.
pub(super) fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|m| m.modified()).ok()
}

pub(super) fn read(path: &Path) -> Result<String, TokenError> {
    std::fs::read_to_string(path).map_err(|e| TokenError::File {
        path: path.display().to_string(),
        why: e.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_file_is_read_again_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "one\n").unwrap();
        let file = TokenFile::new(path.clone());
        assert_eq!(file.current().unwrap().expose_secret(), "one");
        std::fs::write(&path, "two").unwrap();
        file.forget();
        assert_eq!(file.current().unwrap().expose_secret(), "two");
        std::fs::write(&path, "  \n").unwrap();
        file.forget();
        assert!(matches!(file.current(), Err(TokenError::Empty { .. })));
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
        let file = TokenFile::new(path.clone());
        assert_eq!(file.current().unwrap().expose_secret(), "one");
        write("two");
        assert_eq!(file.current().unwrap().expose_secret(), "one");
        file.forget();
        assert_eq!(file.current().unwrap().expose_secret(), "two");
    }

    #[test]
    fn a_missing_file_is_named() {
        let file = TokenFile::new("/nowhere/token".into());
        let error = file.current().unwrap_err().to_string();
        assert!(error.contains("/nowhere/token"), "{error}");
    }
}
