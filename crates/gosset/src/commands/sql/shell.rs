//! The interactive shell.

use std::path::PathBuf;

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Editor, Helper};

use super::Session;
use crate::commands::functions;
use crate::exit::{Exit, Failure};
use crate::signals::{self, Stop, unless_stopped};

const PROMPT: &str = "gosset> ";

const HELP: &str = r"A statement ends with a semicolon and may have several lines. Files are tables:
  SELECT * FROM 'data.parquet' LIMIT 10;     (also .csv, .json, directories, 'days/*.parquet', s3://, Delta tables)

  \d           tables             \d TABLE     columns of a table, or of a file: \d 'data.csv'
  \df          functions          \df NAME     the page of a function
  \?           this help          \q           leave (also ctrl-D)

Ctrl-C stops the running query. Results are also written as csv, json, ndjson or markdown: gosset sql --format csv";

/// What a line that begins with a backslash asks for.
#[derive(Debug, PartialEq, Eq)]
enum Request<'a> {
    Help,
    Quit,
    Functions,
    Function(&'a str),
    /// A request that is a statement written shorter.
    Sql(String),
    Unknown(&'a str),
}

fn request(line: &str) -> Request<'_> {
    let line = line.trim().trim_end_matches(';').trim_end();
    let (name, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match (name, argument.trim()) {
        (r"\?" | r"\h" | r"\help", _) => Request::Help,
        (r"\q" | r"\quit", _) => Request::Quit,
        (r"\df", "") => Request::Functions,
        (r"\df", name) => Request::Function(name),
        (r"\d", "") => Request::Sql(
            "SELECT table_schema, table_name, table_type FROM information_schema.tables \
             WHERE table_schema <> 'information_schema' ORDER BY table_schema, table_name"
                .into(),
        ),
        (r"\d", table) => Request::Sql(format!("DESCRIBE {table}")),
        _ => Request::Unknown(name),
    }
}

/// Reads and runs statements until the end of input. A failed statement is told and does not end the shell.
pub(super) async fn run(session: &Session<'_>) -> Result<Exit, Failure> {
    let history = history_file();
    let mut editor = Some(editor(history.as_ref())?);
    eprintln!("gosset {}. Type \\? for help.", env!("CARGO_PKG_VERSION"));
    loop {
        let mut reader = editor.take().expect("the editor comes back with every line");
        // Reading blocks, so it has a thread of its own while this one listens for signals.
        let reading = tokio::task::spawn_blocking(move || {
            let line = reader.readline(PROMPT);
            (reader, line)
        });
        let (mut reader, line) = tokio::select! {
            read = reading => read.map_err(|error| Failure::new(Exit::Bug, error.to_string()))?,
            stop = signals::stop() => return Err(stop.into()),
        };
        match line {
            Ok(line) if line.trim().is_empty() => {}
            Ok(line) => {
                // A history that cannot be written is no reason to lose a session.
                let _ = reader.add_history_entry(line.trim());
                if let Some(file) = &history {
                    let _ = reader.append_history(file);
                }
                match entered(session, &line).await {
                    Ok(true) => {}
                    Ok(false) => return Ok(Exit::Done),
                    Err(failure) if failure.exit == Exit::Terminated => return Err(failure),
                    Err(failure) => eprintln!("error: {failure}"),
                }
            }
            // Ctrl-C at the prompt drops the line.
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => return Ok(Exit::Done),
            Err(error) => return Err(Failure::new(Exit::Bug, error.to_string())),
        }
        editor = Some(reader);
    }
}

/// Does what was entered; `false` to leave.
async fn entered(session: &Session<'_>, line: &str) -> Result<bool, Failure> {
    let sql = if line.trim_start().starts_with('\\') {
        match request(line) {
            Request::Quit => return Ok(false),
            Request::Help => return told(HELP),
            Request::Functions => return told(&functions::list()),
            Request::Function(name) => return told(&functions::page(name)?),
            Request::Unknown(name) => {
                let message = format!("'{name}' is not known, \\? lists what is");
                return Err(Failure::new(Exit::Usage, message));
            }
            Request::Sql(sql) => sql,
        }
    } else {
        line.to_owned()
    };
    match unless_stopped(session.script(&sql)).await {
        Ok(done) => done.map(|()| true),
        Err(Stop::Interrupt) => Err(Failure::new(Exit::Interrupted, "the query was stopped")),
        Err(stop @ Stop::Terminate) => Err(stop.into()),
    }
}

fn told(text: &str) -> Result<bool, Failure> {
    eprintln!("{}", text.trim_end());
    Ok(true)
}

/// Where lines are remembered: in the user's data directory; nowhere if there is none.
fn history_file() -> Option<PathBuf> {
    let directory = dirs::data_dir()?.join("gosset");
    std::fs::create_dir_all(&directory).ok()?;
    Some(directory.join("history"))
}

fn editor(history: Option<&PathBuf>) -> Result<Editor<Statements, FileHistory>, Failure> {
    let failed = |error: ReadlineError| Failure::new(Exit::Bug, format!("no shell: {error}"));
    let config = rustyline::Config::builder()
        .completion_type(rustyline::CompletionType::List)
        .max_history_size(10_000)
        .map_err(failed)?
        .build();
    let mut editor = Editor::with_config(config).map_err(failed)?;
    editor.set_helper(Some(Statements));
    if let Some(file) = history {
        // There is none in the first session.
        let _ = editor.load_history(file);
    }
    Ok(editor)
}

/// Knows when a statement is complete, and completes names of functions.
struct Statements;

/// Whether input can be run as it stands. The tokenizer decides: a semicolon in a string or a comment ends nothing.
fn is_complete(input: &str) -> bool {
    let input = input.trim();
    if input.is_empty() || input.starts_with('\\') {
        return true;
    }
    // Tokens end in an error while a string or comment is open.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, input).tokenize() else { return false };
    let last = tokens.iter().rev().find(|token| !matches!(token, Token::Whitespace(_)));
    last.is_none_or(|token| *token == Token::SemiColon)
}

impl Validator for Statements {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match is_complete(context.input()) {
            true => ValidationResult::Valid(None),
            false => ValidationResult::Incomplete,
        })
    }
}

impl Completer for Statements {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let before = &line[..position];
        let start = before
            .rfind(|c: char| !c.is_alphanumeric() && c != '_')
            .map_or(0, |at| at + before[at..].chars().next().map_or(0, char::len_utf8));
        let word = before[start..].to_lowercase();
        if word.is_empty() {
            return Ok((start, vec![]));
        }
        let names = gosset_sql::FUNCTIONS.iter().map(|function| function.name);
        let found = names.filter(|name| name.starts_with(&word)).map(|name| format!("{name}("));
        Ok((start, found.collect()))
    }
}

impl Hinter for Statements {
    type Hint = String;
}

impl Highlighter for Statements {}

impl Helper for Statements {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_ends_with_its_semicolon() {
        for complete in ["SELECT 1;", "SELECT ';';", "SELECT 1; -- done", r"\d t", "", "  "] {
            assert!(is_complete(complete), "{complete}");
        }
        for open in
            ["SELECT 1", "SELECT ';", "SELECT ';'", "SELECT 1 -- ;", "SELECT /* ; */ 1", "/* ;"]
        {
            assert!(!is_complete(open), "{open}");
        }
    }

    #[test]
    fn requests() {
        assert_eq!(request(r"\q"), Request::Quit);
        assert_eq!(request(r" \? "), Request::Help);
        assert_eq!(request(r"\df  ttest ;"), Request::Function("ttest"));
        assert_eq!(request(r"\d 'a b.csv';"), Request::Sql("DESCRIBE 'a b.csv'".into()));
        assert_eq!(request(r"\x y"), Request::Unknown(r"\x"));
    }
}
