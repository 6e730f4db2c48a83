//! Which line of a template has made which line of a text: takes the sources of templates, gives them with marks that go into the text,
//! and reads the marks there. A mark stands where text is beside it, so that what trims white space trims the same without it.

use std::collections::BTreeMap;

/// Before a mark. U+E000 and U+E001 are those of materials; these are next to them in the same private area.
const MARK: char = '\u{E002}';
/// A template's number, and a line's, are one character each of the supplementary private areas, from here on.
const TEMPLATES: u32 = 0xF_0000;
const LINES: u32 = 0x10_0000;
/// So many fit.
const MOST: u32 = 0xFFFD;

/// A line of a template.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// The template's name, as `haproxy/haproxy.cfg`.
    pub template: String,
    /// From 1.
    pub number: usize,
}

/// The names of templates, in the order of their numbers in marks.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    names: Vec<String>,
}

impl Trace {
    /// Marks the sources, by name.
    pub fn onto<'s>(sources: impl Iterator<Item = (&'s str, &'s str)>) -> (Self, BTreeMap<String, String>) {
        let mut trace = Self::default();
        let mut marked = BTreeMap::new();
        for (name, text) in sources {
            let number = u32::try_from(trace.names.len()).unwrap_or(MOST);
            let text = match char::from_u32(TEMPLATES + number).filter(|_| number < MOST) {
                Some(template) => with_marks(text, template),
                None => text.to_owned(),
            };
            trace.names.push(name.to_owned());
            marked.insert(name.to_owned(), text);
        }
        (trace, marked)
    }

    /// Reads a text that templates with marks have made: it without them, and for each of its lines the line of a template that has made
    /// it. A line without a mark of its own belongs to the one before it, as the lines of a value of several do.
    pub fn read(&self, text: &str) -> (String, Vec<Option<Line>>) {
        let (mut plain, mut origins) = (String::with_capacity(text.len()), Vec::new());
        let mut last = None;
        for line in text.split_inclusive('\n') {
            let mut own = None;
            let mut rest = line.chars();
            while let Some(c) = rest.next() {
                if c != MARK {
                    plain.push(c);
                    continue;
                }
                let place = self.place(rest.next(), rest.next());
                own = own.or(place);
            }
            last = own.or(last);
            origins.push(last.clone());
        }
        (plain, origins)
    }

    fn place(&self, template: Option<char>, line: Option<char>) -> Option<Line> {
        let template = usize::try_from(u32::from(template?).checked_sub(TEMPLATES)?).ok()?;
        let number = usize::try_from(u32::from(line?).checked_sub(LINES)?).ok()?;
        Some(Line { template: self.names.get(template)?.clone(), number })
    }
}

/// Where the scanner of a template is.
#[derive(Clone, Copy, PartialEq)]
enum At {
    /// In text; whether a mark of this line stands there since the last tag.
    Text { marked: bool },
    /// In a tag, an expression or a comment, up to this.
    Tag { end: &'static str, quote: Option<char> },
    /// In text that is taken as it is.
    Raw { marked: bool },
}

fn with_marks(source: &str, template: char) -> String {
    let mut out = String::with_capacity(source.len() * 2);
    let mut at = At::Text { marked: false };
    for (index, line) in source.split_inclusive('\n').enumerate() {
        let number = u32::try_from(index + 1).unwrap_or(MOST).min(MOST);
        let mark = [MARK, template, char::from_u32(LINES + number).unwrap_or(MARK)];
        if let At::Text { marked } | At::Raw { marked } = &mut at {
            *marked = false;
        }
        let mut rest = line;
        while let Some(c) = rest.chars().next() {
            let mut taken = c.len_utf8();
            at = match at {
                At::Text { marked } => {
                    let opening = ["{%", "{{", "{#"].into_iter().find(|open| rest.starts_with(open));
                    // What trims is left alone; an expression makes text like a word does.
                    let text = match opening {
                        None => !c.is_whitespace(),
                        Some(open) => open == "{{" && !rest.starts_with("{{-"),
                    };
                    if text && !marked {
                        out.extend(mark);
                    }
                    match opening {
                        None => At::Text { marked: marked || text },
                        Some(open) => {
                            taken = 2;
                            let word = rest.trim_start_matches(['{', '%', '-', ' ']);
                            if open == "{%" && word.starts_with("raw") {
                                let end = rest.find("%}").map_or(rest.len(), |end| end + 2);
                                taken = end;
                                At::Raw { marked: false }
                            } else {
                                let end = if open == "{%" {
                                    "%}"
                                } else if open == "{{" {
                                    "}}"
                                } else {
                                    "#}"
                                };
                                At::Tag { end, quote: None }
                            }
                        }
                    }
                }
                At::Tag { end, quote } => {
                    if quote.is_none() && rest.starts_with(end) {
                        taken = 2;
                        At::Text { marked: false }
                    } else {
                        let quote = match quote {
                            Some(open) => Some(open).filter(|open| *open != c),
                            None => Some(c).filter(|c| end != "#}" && matches!(c, '"' | '\'' | '`')),
                        };
                        At::Tag { end, quote }
                    }
                }
                At::Raw { marked } => {
                    let words = rest.trim_start_matches(['{', '%', '-', ' ']);
                    if rest.starts_with("{%") && words.starts_with("endraw") {
                        At::Tag { end: "%}", quote: None }
                    } else {
                        let text = !c.is_whitespace();
                        if text && !marked {
                            out.extend(mark);
                        }
                        At::Raw { marked: marked || text }
                    }
                }
            };
            let (now, later) = rest.split_at(taken);
            out.push_str(now);
            rest = later;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `source` renders to with `names`, each line with the number of its line in the source.
    fn traced(source: &str) -> (String, Vec<usize>) {
        let render = |text: &str| {
            let mut tera = tera::Tera::new();
            tera.autoescape_on(Vec::<&str>::new());
            tera.add_raw_template("t", text).unwrap();
            let model = serde_json::json!({ "names": ["a", "b"], "lines": "x\ny", "no": false });
            tera.render("t", &tera::Context::from_serialize(&model).unwrap()).unwrap()
        };
        let (trace, marked) = Trace::onto([("t", source)].into_iter());
        let (plain, lines) = trace.read(&render(&marked["t"]));
        assert_eq!(plain, render(source), "marks change nothing: {source}");
        (plain, lines.into_iter().map(|line| line.map_or(0, |line| line.number)).collect())
    }

    #[test]
    fn each_line_knows_the_line_that_has_made_it() {
        for (source, numbers) in [
            ("one\ntwo\n", &[1, 2][..]),
            ("{% for n in names %}\n{{ n }} is\n{% endfor %}\nend\n", &[0, 2, 2, 2, 2, 4]),
            ("{%- for n in names %}\n  name {{ n }}\n{%- endfor %}\nend", &[0, 2, 2, 4]),
            ("{% for n in names -%}\n    {{ n }}\n{% endfor -%}\n  end", &[2, 2, 4]),
            ("a\n{{ lines }}\nb\n", &[1, 2, 2, 3]),
            ("{# of\nno line #}a {% if no %}b{% else %}c{% endif %}\nd\n", &[2, 3]),
            ("{% raw %}\n{{ no }}\n{% endraw %}\nz\n", &[0, 2, 2, 4]),
            ("{{- \"%} }}\" }} q\n\n\nz", &[1, 1, 1, 4]),
            ("{% set s %}in {{ lines }}{% endset %}\n{{ s }}\n", &[0, 2, 2]),
        ] {
            let (text, found) = traced(source);
            assert_eq!(found, numbers, "{source}\n{text}");
        }
    }
}
