//! The installation token of the collector: takes what stands behind the inventory's reference, says what is wrong with it, and never
//! what it is.

/// No token is shorter: a login of Sumo Logic's (`su…`, 14 characters) is.
const SHORTEST: usize = 16;
/// None is longer by far.
const LONGEST: usize = 1024;

/// Refuses what cannot be a token: it is one word of base64, for URLs or not.
///
/// # Errors
/// What is wrong, after the secret's name.
pub(super) fn admit(token: &str) -> Result<(), String> {
    let help = "copy the token from Sumo Logic's page «Installation Tokens», and nothing else";
    if token.contains("://") {
        return Err(format!("is an address, not an installation token: {help}"));
    }
    if token.contains("INSTALLATION_TOKEN") {
        return Err(format!("is a line of settings, not an installation token: {help}"));
    }
    let word = |c: char| c.is_ascii_alphanumeric() || "+/=_-".contains(c);
    if !token.chars().all(word) {
        return Err(format!("has a character that no installation token has: {help}"));
    }
    if token.trim_end_matches('=').contains('=') {
        return Err(format!("has a `=` in its middle, as no installation token has: {help}"));
    }
    if token.len() < SHORTEST {
        return Err(format!("is shorter than any installation token; the id of an access key is none: {help}"));
    }
    if token.len() > LONGEST {
        return Err(format!("is longer than any installation token: {help}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::admit;

    #[test]
    fn only_a_token_is_taken() {
        admit("U1VNT2xhYi1ub3QtYS1yZWFsLXRva2VuLTEyMzQ1Njc4OTA=").unwrap();
        admit("U1VNT2xhYi1ub3QtYS1yZWFsLXRva2VuLTEyMzQ1Njc4OTA").unwrap();
        let long = "Q7".repeat(600);
        for (token, why) in [
            ("https://endpoint1.collection.sumologic.com/receiver/v1/http/Q7", "an address"),
            ("SUMOLOGIC_INSTALLATION_TOKEN=Q7VNT2xhYi1ub3QtYS1yZWFs", "a line of settings"),
            ("suQ7abcdefghij", "shorter than any"),
            ("Q7", "shorter than any"),
            ("Q7VNT2xhYi1ub3 QtYS1yZWFs", "a character"),
            ("Q7VNT2xhYi1ub3\nQtYS1yZWFs", "a character"),
            ("\"Q7VNT2xhYi1ub3QtYS1yZWFs\"", "a character"),
            ("Q7VNT2xhYi1ub3Q$tYS1yZWFs", "a character"),
            ("Q7VNT2xhYi1ub3Q…YS1yZWFs", "a character"),
            ("Q7VNT2xh=Yi1ub3QtYS1yZWFs", "in its middle"),
            (long.as_str(), "longer than any"),
        ] {
            let said = admit(token).unwrap_err();
            assert!(said.contains(why), "{token}: {said}");
            assert!(!said.contains("Q7"), "{said}");
        }
    }
}
