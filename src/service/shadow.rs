//! A template that makes what a person has written into a rendered file by hand: takes the template, the text that it has made with the
//! lines that have made it, and the text that stands there now, gives the template's new text. Only lines that the template has word by
//! word can be taken over; what a value has made is the inventory's to change.

use std::collections::BTreeMap;

use similar::{DiffOp, TextDiff};

use super::trace::Line;

/// A line that cannot be taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The line as it was rendered, from 1.
    pub line: usize,
    /// Its text.
    pub text: String,
    /// What has made it, where that is known.
    pub by: Option<Line>,
}

/// The template `name` with the changes from `rendered` to `live`; `origins` are those of the lines of `rendered`.
///
/// # Errors
/// Every changed line that stands otherwise in the template.
pub fn taken(
    (name, template): (&str, &str),
    (rendered, origins): (&str, &[Option<Line>]),
    live: &str,
) -> Result<String, Vec<Made>> {
    let source: Vec<&str> = template.split_inclusive('\n').collect();
    let lines: Vec<&str> = rendered.split_inclusive('\n').collect();
    let new: Vec<&str> = live.split_inclusive('\n').collect();
    let origin = |at: usize| origins.get(at).and_then(Option::as_ref).filter(|line| line.template == name);
    // By the number of a line of the template: whether it goes, and what comes behind it. 0 is before the first.
    let (mut gone, mut behind) = (Vec::new(), BTreeMap::<usize, Vec<String>>::new());
    let mut made = Vec::new();
    let diff = TextDiff::from_slices(&lines, &new);
    for op in diff.ops() {
        let (old, added) = match *op {
            DiffOp::Equal { .. } => continue,
            DiffOp::Delete { old_index, old_len, .. } => (old_index..old_index + old_len, 0..0),
            DiffOp::Insert { old_index, new_index, new_len } => (old_index..old_index, new_index..new_index + new_len),
            DiffOp::Replace { old_index, old_len, new_index, new_len } => {
                (old_index..old_index + old_len, new_index..new_index + new_len)
            }
        };
        for at in old.clone() {
            let text = lines.get(at).copied().unwrap_or_default();
            let of = origin(at);
            let literal = of.and_then(|line| source.get(line.number - 1));
            match (of, literal) {
                (Some(by), Some(literal)) if literal.trim_end_matches('\n') == text.trim_end_matches('\n') => {
                    gone.push(by.number);
                }
                (of, _) => made.push(Made { line: at + 1, text: text.trim_end().to_owned(), by: of.cloned() }),
            }
        }
        // Behind the line of the template that has made the last one that stays in place before.
        let before = old.start.checked_sub(1).and_then(origin).map_or(0, |line| line.number);
        let texts = added.filter_map(|at| new.get(at)).map(|line| literally(line));
        behind.entry(before).or_default().extend(texts);
    }
    if !made.is_empty() {
        return Err(made);
    }
    let mut out = String::new();
    out.extend(behind.remove(&0).into_iter().flatten());
    for (index, line) in source.iter().enumerate() {
        if !gone.contains(&(index + 1)) {
            out.push_str(line);
        }
        let more = behind.remove(&(index + 1)).unwrap_or_default();
        if !more.is_empty() && !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        out.extend(more);
    }
    Ok(out)
}

/// A line as a template says it word by word.
fn literally(line: &str) -> String {
    if !["{{", "{%", "{#"].iter().any(|tag| line.contains(tag)) {
        return line.to_owned();
    }
    let (text, end) = line.strip_suffix('\n').map_or((line, ""), |text| (text, "\n"));
    // `endraw` in any spelling would end it, and what follows would be carried out.
    let text = text.replace("{%", "{% endraw %}{{ \"{%\" }}{% raw %}");
    format!("{{% raw %}}{text}{{% endraw %}}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::trace::Trace;

    const TEMPLATE: &str =
        "# head\n{% for port in ports -%}\nlisten {{ port }};\nfixed;\n{% endfor -%}\ntimeout 5;\nend\n";

    fn render(template: &str) -> String {
        let mut tera = tera::Tera::new();
        tera.autoescape_on(Vec::<&str>::new());
        tera.add_raw_template("t", template).unwrap();
        let model = serde_json::json!({ "ports": [80] });
        tera.render("t", &tera::Context::from_serialize(&model).unwrap()).unwrap()
    }

    fn changed(live: &str) -> Result<String, Vec<Made>> {
        let (trace, marked) = Trace::onto([("t", TEMPLATE)].into_iter());
        let (rendered, origins) = trace.read(&render(&marked["t"]));
        assert_eq!(rendered, "# head\nlisten 80;\nfixed;\ntimeout 5;\nend\n");
        taken(("t", TEMPLATE), (&rendered, &origins), live)
    }

    #[test]
    fn what_the_template_says_word_by_word_is_taken_over() {
        for live in [
            "# head\nlisten 80;\nfixed;\ntimeout 9;\nend\n",
            "# head\nlisten 80;\nfixed;\nend\n",
            "# mine\n# head\nlisten 80;\nfixed;\ntimeout 5;\nmore;\nend\n",
            "# head\nlisten 80;\nfixed;\ntimeout 5;\nend\nlast {{ x }} {% y %}\n",
            "# head\nlisten 80;\nother;\ntimeout 5;\nend\n",
            "# head\nlisten 80;\nfixed;\ntimeout 5;\nend\n",
        ] {
            let template = changed(live).unwrap();
            assert_eq!(render(&template), live, "{template}");
        }
    }

    #[test]
    fn what_a_value_has_made_is_not() {
        let made = changed("# head\nlisten 81;\nfixed;\ntimeout 9;\nend\n").unwrap_err();
        assert_eq!(made.len(), 1);
        assert_eq!((made[0].line, made[0].text.as_str()), (2, "listen 80;"));
        assert_eq!(made[0].by.as_ref().map(|line| line.number), Some(3));
    }
}
