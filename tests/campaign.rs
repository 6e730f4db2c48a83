//! The list of `tests/campaign`, held to the tests that it names: each is there, and takes its quantity.

#[test]
fn every_campaign_is_the_long_form_of_a_test() {
    let script = include_str!("campaign");
    let (_, rest) = script.split_once("campaigns='\n").unwrap();
    let (table, _) = rest.split_once("\n'\n").unwrap();
    let mut labs = 0;
    for line in table.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_name, quantity, amount, test, checks, _shows] = cells[..] else { panic!("not six cells: {line}") };
        assert!(amount.parse::<u32>().is_ok(), "{line}");
        let Some((file, test)) = test.strip_prefix("lab_").and_then(|words| words.split_once(' ')) else { continue };
        labs += 1;
        let path = format!("{}/tests/lab/{file}.rs", env!("CARGO_MANIFEST_DIR"));
        let source = std::fs::read_to_string(&path).unwrap();
        assert!(source.contains(&format!("fn {test}")), "{path} has no test {test}");
        assert!(source.contains(&format!("amount(\"{quantity}\"")), "{path} does not ask for {quantity}");
        for word in checks.split(", ").filter(|word| !word.is_empty()) {
            let named = |line: &str| line.trim_start().starts_with("(\"") && line.contains(word);
            assert!(source.lines().any(named), "{path} has no check `{word}`");
        }
    }
    assert!(labs >= 5, "{labs}");
    // The shell reads the same table: a quotation mark in it would end it there.
    let listed = std::process::Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/campaign")).output().unwrap();
    let words = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.status.success() && words.lines().count() == table.lines().count(), "{words}");
}
