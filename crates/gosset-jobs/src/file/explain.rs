//! What is wrong with a job file, in one line: the place, the key, the nearest known one.

/// Keys of job files that this version does not have. They are refused like any unknown key, with another reason.
const LATER: &[&str] = &["cluster", "expected_by", "trigger"];

/// The text of an error of the TOML reader.
pub(super) fn explain(error: &toml::de::Error, text: &str, name: &str) -> String {
    let place = error.span().map(|span| place(text, span.start));
    let what = reason(error.message());
    match place {
        Some((line, column)) => format!("{name}:{line}:{column}: {what}"),
        None => format!("{name}: {what}"),
    }
}

fn place(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(at)];
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The reader names an unknown key and the known ones between backticks.
fn reason(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default();
    let names: Vec<&str> = first.split('`').skip(1).step_by(2).collect();
    match (first, names.split_first()) {
        (m, Some((key, known))) if m.starts_with("unknown field") => unknown_key(key, known),
        (m, Some((value, known))) if m.starts_with("unknown variant") => {
            let quoted: Vec<String> = known.iter().map(|k| format!("'{k}'")).collect();
            format!("expected {}; found '{value}'", quoted.join(" | "))
        }
        (m, Some((key, _))) if m.starts_with("missing field") => {
            format!("the key '{key}' is missing")
        }
        _ => first
            .replace('`', "'")
            .replace("expected a sequence", "expected a list")
            .replace("expected u32", "expected an integer from 0 to 4294967295"),
    }
}

fn unknown_key(key: &str, known: &[&str]) -> String {
    let plural = format!("{key}s");
    if LATER.contains(&key) && !known.contains(&plural.as_str()) {
        return format!("the key '{key}' is not supported by this version of gosset");
    }
    let hint = nearest(key, known.iter().copied()).map_or_else(
        || format!("expected {}", known.join(", ")),
        |near| format!("did you mean '{near}'?"),
    );
    format!("unknown key '{key}'; {hint}")
}

/// The name that was probably meant.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|known| {
            (strsim::damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase()), known)
        })
        .filter(|&(distance, known)| distance <= 1 + known.chars().count() / 4)
        .min()
        .map(|(_, known)| known)
}
