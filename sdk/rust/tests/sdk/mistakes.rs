//! Mistakes of authors, and that the compiler points at them. To accept new messages: `TRYBUILD=overwrite cargo test`.

#[test]
fn mistakes_are_shown_where_they_are() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
