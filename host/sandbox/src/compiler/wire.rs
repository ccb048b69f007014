//! What a host and the process that compiles for it say to each other.
//!
//! ```text
//! process -> host   the greeting, once its walls stand: 16 bytes that name this format, 32 that name its engine
//! host -> process   the component, up to the end of the pipe
//! process -> host   the answer: one byte of what kind, 8 bytes of how long (little-endian), and so many bytes
//! ```
//!
//! The process has looked at hostile bytes, so the host takes nothing of it for granted but native code, whose making is what
//! it is trusted with: every length is bounded before it is believed.

use std::io::{self, Write};

use opyard_model::digest::Digest;

const FORMAT: [u8; 16] = *b"opyard compile 1";
pub(super) const GREETING: usize = FORMAT.len() + 32;
/// Kind and length.
const HEADER: usize = 1 + 8;
/// Longest text of an answer, in bytes.
const MAX_TEXT: u64 = 4 << 10;

/// What a process says once it has shut itself in. Another version, other settings or another machine say something else.
pub(super) fn greeting(engine: &Digest) -> [u8; GREETING] {
    let mut greeting = [0; GREETING];
    greeting[..FORMAT.len()].copy_from_slice(&FORMAT);
    greeting[FORMAT.len()..].copy_from_slice(engine.as_bytes());
    greeting
}

/// What came of compiling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Machine code.
    Code(Vec<u8>),
    /// The component is not valid: why.
    Invalid(String),
    /// The component is beyond a bound of the engine: of what.
    TooLarge(String),
    /// The process may not have as much memory as it takes.
    OutOfMemory,
    /// The compiler panicked: with what words.
    Panicked(String),
}

impl Answer {
    fn parts(&self) -> (u8, &[u8]) {
        match self {
            Self::Code(code) => (0, code),
            Self::Invalid(why) => (1, why.as_bytes()),
            Self::TooLarge(what) => (2, what.as_bytes()),
            Self::OutOfMemory => (3, b""),
            Self::Panicked(words) => (4, words.as_bytes()),
        }
    }

    fn new(kind: u8, bytes: Vec<u8>) -> Option<Self> {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Some(match kind {
            0 => Self::Code(bytes),
            1 => Self::Invalid(text(bytes)),
            2 => Self::TooLarge(text(bytes)),
            3 => Self::OutOfMemory,
            4 => Self::Panicked(text(bytes)),
            _ => return None,
        })
    }

    /// Says it. Texts are cut where the host would not take more.
    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let (kind, mut bytes) = self.parts();
        if kind != 0 {
            bytes = &bytes[..bytes.len().min(usize::try_from(MAX_TEXT).unwrap_or(usize::MAX))];
        }
        to.write_all(&[kind])?;
        to.write_all(&(bytes.len() as u64).to_le_bytes())?;
        to.write_all(bytes)?;
        to.flush()
    }
}

/// The process said what no process of ours says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Garbage;

/// How far a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// It has not said that its walls stand.
    Nothing,
    /// Its walls stand: it may be given the component.
    Greeting,
    /// All there is to say.
    Answer(Answer),
}

/// Puts together what a process says, in whatever pieces it comes.
pub(super) struct Ear {
    /// What the process has to begin with.
    greeting: [u8; GREETING],
    greeted: bool,
    bytes: Vec<u8>,
    /// Longest code that is taken, in bytes.
    max_code: u64,
}

impl Ear {
    pub(super) fn new(greeting: [u8; GREETING], max_code: u64) -> Self {
        Self { greeting, greeted: false, bytes: Vec::new(), max_code }
    }

    /// Takes a piece.
    ///
    /// # Errors
    /// As soon as it can be nothing that a process of ours says. What is kept never grows beyond the longest answer and one
    /// piece.
    pub(super) fn hear(&mut self, piece: &[u8]) -> Result<Heard, Garbage> {
        self.bytes.extend_from_slice(piece);
        if !self.greeted {
            let known = self.bytes.len().min(GREETING);
            if self.bytes[..known] != self.greeting[..known] {
                return Err(Garbage);
            }
            if known < GREETING {
                return Ok(Heard::Nothing);
            }
            self.bytes.drain(..GREETING);
            self.greeted = true;
        }
        let Some(([kind, length @ ..], rest)) = self.bytes.split_first_chunk::<HEADER>() else {
            return Ok(Heard::Greeting);
        };
        let (kind, length) = (*kind, u64::from_le_bytes(*length));
        let max = if kind == 0 { self.max_code } else { MAX_TEXT };
        if length > max || rest.len() as u64 > length {
            return Err(Garbage);
        }
        if (rest.len() as u64) < length {
            return Ok(Heard::Greeting);
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.drain(..HEADER);
        Answer::new(kind, bytes).map(Heard::Answer).ok_or(Garbage)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const MAX: u64 = 1 << 10;

    fn engine() -> Digest {
        Digest::of(b"an engine")
    }

    fn answers() -> impl Strategy<Value = Answer> {
        let text = || ".{0,200}";
        prop_oneof![
            vec(any::<u8>(), 0..1024).prop_map(Answer::Code),
            text().prop_map(Answer::Invalid),
            text().prop_map(Answer::TooLarge),
            Just(Answer::OutOfMemory),
            text().prop_map(Answer::Panicked),
        ]
    }

    proptest! {
        /// However the pipe cuts it, an answer is what was said; before it is whole, it is none.
        #[test]
        fn an_answer_comes_through_in_any_pieces(answer in answers(), cuts in vec(1usize..400, 1..40)) {
            let mut said = greeting(&engine()).to_vec();
            answer.write(&mut said).unwrap();
            let mut ear = Ear::new(greeting(&engine()), MAX);
            let (mut at, mut cuts) = (0, cuts.iter().cycle());
            while at < said.len() {
                let to = (at + cuts.next().unwrap()).min(said.len());
                let heard = ear.hear(&said[at..to]).unwrap();
                at = to;
                prop_assert_eq!(matches!(heard, Heard::Nothing), at < GREETING);
                prop_assert_eq!(heard == Heard::Answer(answer.clone()), at == said.len());
            }
        }

        /// Whatever is said, nothing beyond the longest answer is kept, and what goes on after the end is no answer.
        #[test]
        fn what_no_process_of_ours_says_is_refused(greets: bool, said in vec(any::<u8>(), 1..4096), piece in 1usize..600) {
            let mut ear = Ear::new(greeting(&engine()), MAX);
            if greets {
                ear.hear(&greeting(&engine())).unwrap();
            }
            for piece in said.chunks(piece) {
                match ear.hear(piece) {
                    Ok(Heard::Answer(_)) | Err(Garbage) => break,
                    Ok(Heard::Nothing | Heard::Greeting) => {}
                }
                prop_assert!(ear.bytes.len() as u64 <= MAX_TEXT.max(MAX) + HEADER as u64);
            }
        }
    }

    #[test]
    fn another_engine_or_format_is_no_greeting() {
        for mut other in [greeting(&Digest::of(b"another")), *b"opyard compile 2................................"] {
            let mut ear = Ear::new(greeting(&engine()), MAX);
            assert_eq!(ear.hear(&other), Err(Garbage));
            other = greeting(&engine());
            let mut ear = Ear::new(other, MAX);
            assert_eq!(ear.hear(&other), Ok(Heard::Greeting));
            // Code that is longer than any that is taken is not waited for.
            let mut header = vec![0];
            header.extend_from_slice(&(MAX + 1).to_le_bytes());
            assert_eq!(ear.hear(&header), Err(Garbage));
        }
    }
}
