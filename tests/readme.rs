//! The README's `console` blocks, run as they stand there. What needs a lab stands in `text` blocks, and is held by `tests/lab`.

#[test]
fn the_readme_shows_what_is_printed() {
    trycmd::TestCases::new().case("README.md").run();
}
