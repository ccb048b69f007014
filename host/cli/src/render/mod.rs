//! Texts for people: pure functions of data. Styles are always written; [`Screen`](crate::screen::Screen) drops them where
//! nobody could see them. Guest-controlled text goes through [`text`], however clean it is said to be.

pub(crate) mod advice;
pub(crate) mod assets;
pub(crate) mod event;
pub(crate) mod failure;
pub(crate) mod inspect;
pub(crate) mod metadata;
pub(crate) mod pools;
pub(crate) mod quantity;
pub(crate) mod run;
pub(crate) mod steps;
pub(crate) mod style;
pub(crate) mod table;
pub(crate) mod text;

/// A text as a pipe gets it, for snapshots.
#[cfg(test)]
pub(crate) fn plain(styled: &str) -> String {
    anstream::adapter::strip_str(styled).to_string()
}
