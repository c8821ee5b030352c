//! Passwords: made, hashed and verified by Argon2id.
//!
//! Hashing takes memory and time on purpose, so it runs beside the async threads, two at a time,
//! and few may wait.

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;

/// A password that somebody chooses has at least as many characters.
pub(super) const SHORTEST: usize = 12;
/// And at most as many bytes.
const LONGEST: usize = 256;
/// 46 MiB, two passes: more than OWASP asks for, and a tenth of a second.
const MEMORY: u32 = 46 * 1024;
const PASSES: u32 = 2;
/// Hashed at a time, and asked for at a time.
const AT_ONCE: usize = 2;
const WAITING: usize = 16;
/// Letters and digits that nobody takes for another.
const ALPHABET: &[u8; 31] = b"abcdefghjkmnpqrstuvwxyz23456789";
const GROUPS: usize = 5;
const GROUP: usize = 4;

/// Why a password was not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    #[error("too many passwords are being checked: try again in a moment")]
    Busy,
    #[error("hashing a password: {0}")]
    Hash(argon2::password_hash::Error),
    #[error("hashing a password was stopped")]
    Stopped,
}

/// Hashes and verifies.
#[derive(Debug)]
pub(super) struct Passwords {
    working: Semaphore,
    waiting: Semaphore,
    /// The hash of nobody's password: an unknown user takes as long as a known one.
    nobody: String,
}

impl Passwords {
    pub(super) async fn new() -> Result<Self, PasswordError> {
        let (working, waiting) = (Semaphore::new(AT_ONCE), Semaphore::new(WAITING));
        let nobody = beside(|| hash(&generate())).await?;
        Ok(Self { working, waiting, nobody })
    }

    /// Whether the password is the user's; `hash` is absent for a user that there is not.
    pub(super) async fn is_right(
        &self,
        password: String,
        hash: Option<&str>,
    ) -> Result<bool, PasswordError> {
        let known = hash.is_some();
        let hash = hash.unwrap_or(&self.nobody).to_owned();
        let right = self.in_turn(move || verify(&password, &hash)).await?;
        Ok(right && known)
    }

    pub(super) async fn hash(&self, password: String) -> Result<String, PasswordError> {
        self.in_turn(move || hash(&password)).await
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let _waiting = self.waiting.try_acquire().map_err(|_| PasswordError::Busy)?;
        let _working = self.working.acquire().await.map_err(|_| PasswordError::Stopped)?;
        beside(work).await
    }
}

/// Hashes a password, without taking a turn.
pub(super) async fn hash_once(password: String) -> Result<String, PasswordError> {
    beside(move || hash(&password)).await
}

async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
) -> Result<T, PasswordError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| PasswordError::Stopped)?
}

/// A password nobody can guess and anybody can type: `k7mw-…`, 99 bits.
pub(super) fn generate() -> String {
    let groups: Vec<String> = (0..GROUPS).map(|_| (0..GROUP).map(|_| letter()).collect()).collect();
    groups.join("-")
}

fn letter() -> char {
    let mut byte = [0_u8];
    loop {
        getrandom::fill(&mut byte).expect("the kernel has random numbers");
        // 248 is a multiple of 31: no letter comes more often than another.
        if byte[0] < 248 {
            return ALPHABET[usize::from(byte[0]) % ALPHABET.len()].into();
        }
    }
}

/// What is wrong with a password that somebody chose.
pub(super) fn objection(new: &str, again: &str, old: &str) -> Option<String> {
    if new.chars().count() < SHORTEST {
        return Some(format!("The new password is too short: use at least {SHORTEST} characters."));
    }
    if new.len() > LONGEST {
        return Some(format!("The new password is too long: use at most {LONGEST} bytes."));
    }
    if new == old {
        return Some("The new password is the old one: choose another.".to_owned());
    }
    let letters: std::collections::HashSet<char> = new.chars().collect();
    if letters.len() < 5 {
        return Some("The new password has too few different characters.".to_owned());
    }
    (new != again).then(|| "The two new passwords differ: type the same twice.".to_owned())
}

fn argon() -> Argon2<'static> {
    let params = Params::new(MEMORY, PASSES, 1, None).expect("these parameters are in range");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hash(password: &str) -> Result<String, PasswordError> {
    let mut salt = [0_u8; 16];
    getrandom::fill(&mut salt).expect("the kernel has random numbers");
    let salt = SaltString::encode_b64(&salt).map_err(PasswordError::Hash)?;
    let hash = argon().hash_password(password.as_bytes(), &salt).map_err(PasswordError::Hash)?;
    Ok(hash.to_string())
}

/// By the parameters that the hash was made with.
fn verify(password: &str, hash: &str) -> Result<bool, PasswordError> {
    let parsed = PasswordHash::new(hash).map_err(PasswordError::Hash)?;
    match argon().verify_password(password.as_bytes(), &parsed) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::Password) => Ok(false),
        Err(error) => Err(PasswordError::Hash(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_passwords_are_readable_and_never_the_same() {
        let (one, other) = (generate(), generate());
        assert_ne!(one, other);
        assert_eq!(one.len(), 24);
        assert!(one.split('-').all(|group| group.len() == 4));
        assert!(one.bytes().all(|byte| byte == b'-' || ALPHABET.contains(&byte)), "{one}");
        assert_eq!(objection(&one, &one, "old"), None);
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_user_is_right() {
        let passwords = Passwords::new().await.unwrap();
        let hash = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=47104,t=2,p=1$"), "{hash}");
        let right = passwords.is_right("correct horse".to_owned(), Some(&hash)).await;
        assert_eq!(right, Ok(true));
        let wrong = passwords.is_right("wrong horse".to_owned(), Some(&hash)).await;
        assert_eq!(wrong, Ok(false));
        let nobody = passwords.is_right("correct horse".to_owned(), None).await;
        assert_eq!(nobody, Ok(false));
    }

    #[tokio::test]
    async fn a_flood_of_passwords_is_turned_away_and_not_queued() {
        let passwords = Passwords::new().await.unwrap();
        let many = (0..40).map(|_| passwords.is_right("x".to_owned(), None));
        let answers = futures_util::future::join_all(many).await;
        let busy = answers.iter().filter(|answer| **answer == Err(PasswordError::Busy)).count();
        assert_eq!(busy, 40 - WAITING);
    }

    #[test]
    fn bad_choices_are_objected_to() {
        let table = [
            (("short", "short", "old"), "too short"),
            (("aaaaaaaaaaaaaa", "aaaaaaaaaaaaaa", "old"), "too few different"),
            (("correct horse", "correct horsf", "old"), "differ"),
            (("correct horse", "correct horse", "correct horse"), "the old one"),
        ];
        for ((new, again, old), expected) in table {
            let objection = objection(new, again, old).unwrap();
            assert!(objection.contains(expected), "{objection}");
        }
        assert!(objection(&"ab cd ef".repeat(40), "", "").unwrap().contains("too long"));
    }
}
