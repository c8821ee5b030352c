//! Running the program `nft`.

use std::io::{self, Write as _};
use std::process::{Child, Command, Output, Stdio};

use super::NftError;

/// Where it is looked for: a service may have a path without the folders for administrators.
const PLACES: [&str; 3] = ["nft", "/usr/sbin/nft", "/sbin/nft"];
/// What is kept of nft's words.
const WORDS: usize = 500;

/// Runs nft and gives what it prints.
pub(super) fn run(arguments: &[&str], input: Option<&[u8]>) -> Result<String, NftError> {
    let child = start(arguments, input.is_some())?;
    let output = feed(child, input).map_err(NftError::Run)?;
    if !output.status.success() {
        return Err(NftError::Refused(words(&String::from_utf8_lossy(&output.stderr))));
    }
    String::from_utf8(output.stdout).map_err(|error| NftError::Malformed(error.to_string()))
}

fn start(arguments: &[&str], fed: bool) -> Result<Child, NftError> {
    for place in PLACES {
        let mut command = Command::new(place);
        // Its words are the same everywhere.
        command.args(arguments).env("LC_ALL", "C");
        command.stdin(if fed { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        match command.spawn() {
            Ok(child) => return Ok(child),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(NftError::Run(error)),
        }
    }
    Err(NftError::Missing)
}

/// Hands over the input, which nft reads to its end before it prints anything, and waits.
fn feed(mut child: Child, input: Option<&[u8]>) -> io::Result<Output> {
    let fed = match (child.stdin.take(), input) {
        (Some(mut stdin), Some(input)) => stdin.write_all(input),
        _ => Ok(()),
    };
    let output = child.wait_with_output()?;
    // One that ends early says more by its own words.
    if output.status.success() { fed.map(|()| output) } else { Ok(output) }
}

/// The errors alone, where nft shows them with the input that they are about.
pub(super) fn words(printed: &str) -> String {
    let errors = printed.lines().filter_map(|line| Some(line.split_once("Error: ")?.1.trim()));
    let mut errors: Vec<_> = errors.collect();
    errors.dedup();
    let words = if errors.is_empty() { printed.trim().to_owned() } else { errors.join("; ") };
    words.chars().take(WORDS).collect()
}
