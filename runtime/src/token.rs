//! The master key, and the tokens in hook URLs that are derived from it and stored nowhere.

use std::{
    fmt, fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretBox};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// Length of the master key, bytes.
pub const MASTER_KEY_BYTES: usize = 32;
/// Length of a token, bytes: 160 bits.
pub const TOKEN_BYTES: usize = 20;
/// Length of a token as text.
pub const TOKEN_TEXT_BYTES: usize = TOKEN_BYTES * 8 / 5;
/// Name of the key's file in the data directory.
const KEY_FILE: &str = "master.key";
/// Keeps this use of the master key apart from any other.
const PURPOSE: &[u8] = b"sheaf hook 1";
/// Letters of RFC 4648's base32, in lower case so that a URL reads calmly.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The key from which this installation's tokens are derived.
pub struct MasterKey(SecretBox<[u8; MASTER_KEY_BYTES]>);

/// The token of a hook. Whoever knows it can send events, so `Debug` does not show it.
#[derive(Clone, Copy)]
pub struct Token([u8; TOKEN_BYTES]);

/// The master key is not usable. Never holds the key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Neither 64 hexadecimal digits nor anything else we accept.
    #[error("the master key in {0} must be 64 hexadecimal digits")]
    Malformed(String),
    /// There is none yet.
    #[error("there is no master key in {path}", path = .0.display())]
    Absent(PathBuf),
    /// The file cannot be read or made.
    #[error("the master key file {path}: {error}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The system gave no random bytes.
    #[error("no random bytes for a new master key: {0}")]
    Random(getrandom::Error),
}

impl MasterKey {
    /// The key given by the operator, else the one in the data directory, which is made at first use (mode 0600, fsynced).
    /// For the server alone: a key that nothing serves gives URLs that lead nowhere.
    ///
    /// # Errors
    /// The key is malformed, or its file cannot be read or made.
    pub fn load(given: Option<String>, data_directory: &Path) -> Result<MasterKey, KeyError> {
        match MasterKey::existing(given, data_directory) {
            Err(KeyError::Absent(_)) => MasterKey::of_file(make, &data_directory.join(KEY_FILE)),
            found => found,
        }
    }

    /// The key given by the operator, else the one that a server left in the data directory.
    ///
    /// # Errors
    /// `Absent` when there is none; the key is malformed, or its file cannot be read.
    pub fn existing(given: Option<String>, data_directory: &Path) -> Result<MasterKey, KeyError> {
        match given {
            Some(given) => MasterKey::from_hex(&given)
                .ok_or_else(|| KeyError::Malformed(crate::config::MASTER_KEY_VARIABLE.to_owned())),
            None => MasterKey::of_file(read, &data_directory.join(KEY_FILE)),
        }
    }

    fn of_file(text: fn(&Path) -> Result<String, KeyError>, path: &Path) -> Result<MasterKey, KeyError> {
        MasterKey::from_hex(&text(path)?).ok_or_else(|| KeyError::Malformed(path.display().to_string()))
    }

    fn from_hex(text: &str) -> Option<MasterKey> {
        let text = text.trim().as_bytes();
        if text.len() != 2 * MASTER_KEY_BYTES {
            return None;
        }
        let mut key = SecretBox::new(Box::new([0; MASTER_KEY_BYTES]));
        for (byte, pair) in
            secrecy::ExposeSecretMut::expose_secret_mut(&mut key).iter_mut().zip(text.chunks_exact(2))
        {
            *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
        }
        Some(MasterKey(key))
    }

    /// The token of a connection's hook: HMAC-SHA256 over purpose, connection and generation, cut to 160 bits.
    pub fn token(&self, connection: &str, generation: u32) -> Token {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.0.expose_secret()).expect("HMAC takes a key of any length");
        mac.update(PURPOSE);
        mac.update(&(connection.len() as u64).to_be_bytes());
        mac.update(connection.as_bytes());
        mac.update(&generation.to_be_bytes());
        let mut token = [0; TOKEN_BYTES];
        token.copy_from_slice(&mac.finalize().into_bytes()[..TOKEN_BYTES]);
        Token(token)
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

impl Token {
    /// Reads the text form; `None` when it is not one.
    pub fn parse(text: &[u8]) -> Option<Token> {
        if text.len() != TOKEN_TEXT_BYTES {
            return None;
        }
        let mut token = [0; TOKEN_BYTES];
        for (bytes, letters) in token.chunks_exact_mut(5).zip(text.chunks_exact(8)) {
            let mut bits = 0_u64;
            for letter in letters {
                bits = bits << 5 | u64::from(letter_value(*letter)?);
            }
            bytes.copy_from_slice(&bits.to_be_bytes()[3..]);
        }
        Some(Token(token))
    }

    /// The text that stands in the URL. Show it only to those who may edit the connection.
    pub fn expose(&self) -> String {
        let mut text = String::with_capacity(TOKEN_TEXT_BYTES);
        for bytes in self.0.chunks_exact(5) {
            let bits = bytes.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
            text.extend((0..8).rev().map(|place| char::from(ALPHABET[(bits >> (5 * place) & 31) as usize])));
        }
        text
    }

    /// The bytes, for a keyed hash.
    pub fn bytes(&self) -> &[u8; TOKEN_BYTES] {
        &self.0
    }

    /// Compares in constant time.
    pub fn is(&self, other: &Token) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

fn read(path: &Path) -> Result<String, KeyError> {
    fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => KeyError::Absent(path.to_owned()),
        _ => KeyError::File { path: path.to_owned(), error },
    })
}

/// Makes the key file and returns its text. Another process may have made it in between: then that one counts.
fn make(path: &Path) -> Result<String, KeyError> {
    let failed = |error| KeyError::File { path: path.to_owned(), error };
    let mut key = [0; MASTER_KEY_BYTES];
    getrandom::fill(&mut key).map_err(KeyError::Random)?;
    let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    match write_durably(path, &text) {
        Ok(()) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::read_to_string(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Tokens that were given to vendors hang on this file, so it and its folder are fsynced.
fn write_durably(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    match path.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn hex_digit(letter: u8) -> Option<u8> {
    char::from(letter).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn letter_value(letter: u8) -> Option<u8> {
    match letter {
        b'a'..=b'z' => Some(letter - b'a'),
        b'2'..=b'7' => Some(letter - b'2' + 26),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn key() -> MasterKey {
        MasterKey::from_hex(&"07".repeat(MASTER_KEY_BYTES)).unwrap()
    }

    #[test]
    fn a_token_is_32_letters_and_is_read_back() {
        let token = key().token("calltouch-main", 0);
        let text = token.expose();
        assert_eq!(text.len(), 32);
        assert!(Token::parse(text.as_bytes()).unwrap().is(&token));
        for wrong in ["", "short", &text.to_uppercase(), &text.replace(&text[..1], "1"), &format!("{text}a")]
        {
            assert!(Token::parse(wrong.as_bytes()).is_none_or(|parsed| !parsed.is(&token)), "{wrong}");
        }
    }

    #[test]
    fn another_connection_generation_or_key_has_another_token() {
        let token = key().token("a", 0);
        let other_key = MasterKey::from_hex(&"08".repeat(MASTER_KEY_BYTES)).unwrap();
        for other in [key().token("b", 0), key().token("a", 1), other_key.token("a", 0)] {
            assert!(!token.is(&other));
        }
    }

    #[test]
    fn base32_is_that_of_rfc_4648() {
        let mut bytes = [0; TOKEN_BYTES];
        bytes[..5].copy_from_slice(b"fooba");
        assert!(Token(bytes).expose().starts_with("mzxw6ytb"));
    }

    #[test]
    fn the_key_is_made_once_readable_by_its_owner_only_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let first = MasterKey::load(None, &data).unwrap().token("a", 0);
        let again = MasterKey::load(None, &data).unwrap().token("a", 0);
        assert!(first.is(&again));
        let mode = fs::metadata(data.join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_only_looks_for_a_key_makes_none() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        assert!(matches!(MasterKey::existing(None, &data), Err(KeyError::Absent(_))));
        assert!(!data.exists());
        let made = MasterKey::load(None, &data).unwrap().token("a", 0);
        assert!(MasterKey::existing(None, &data).unwrap().token("a", 0).is(&made));
    }

    #[test]
    fn a_malformed_key_is_refused_without_being_shown() {
        let folder = tempfile::tempdir().unwrap();
        let error = MasterKey::load(Some("hunter2".into()), folder.path()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        assert_eq!(format!("{:?} {:?}", key(), key().token("a", 0)), "MasterKey(…) Token(…)");
    }
}
