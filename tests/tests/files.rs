//! Tables of files that are not all alike: every value is read as it is written, or an error names the files.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fmt::Write;

use gosset_tests::place::Place;

/// What a query that fails over the data says.
fn refused(place: &Place, query: &str) -> String {
    place.gosset(&["sql", "-c", query]).ended(65).stderr
}

/// Decimals, columns and texts that come after the rows from which types are usually taken.
#[test]
fn types_are_those_of_all_rows() {
    let place = Place::new();
    let (mut json, mut csv) = (String::new(), "x,y\n".to_owned());
    for i in 0..3000 {
        let x = if i < 2000 { "1" } else { "0.25" };
        let y = if i == 2999 { ",\"y\":\"late\"" } else { "" };
        writeln!(json, "{{\"x\":{x}{y}}}").unwrap();
        writeln!(csv, "{x},{}", if i == 2999 { "late" } else { "" }).unwrap();
    }
    place.write("a.json", &json);
    place.write("a.csv", &csv);
    for file in ["a.json", "a.csv"] {
        let query = format!("SELECT sum(x) AS x, count(y) AS y FROM '{file}'");
        assert_eq!(place.asked(&query, &[]), "x,y\n2250.0,1\n", "{file}");
    }
}

/// In a folder and in a pattern, which DataFusion reads by the first file.
#[test]
fn types_and_columns_are_those_of_all_files() {
    let place = Place::new();
    place.write("json/1.json", "{\"u\":1,\"x\":1}\n");
    place.write("json/2.json", "{\"u\":2,\"x\":2.5,\"z\":3}\n");
    place.write("csv/1.csv", "u,x,z\n1,1,\n");
    place.write("csv/2.csv", "u,x,z\n2,2.5,3\n");
    place.write("csv/3.csv", "u,x,z\n");
    let copy = |query: &str, to: &str| {
        place.asked(&format!("COPY ({query}) TO '{to}'"), &[]);
    };
    copy("SELECT CAST(1 AS INT) AS u, CAST(1 AS FLOAT) AS x", "parquet/1.parquet");
    copy("SELECT 2 AS u, 2.5 AS x, 3 AS z", "parquet/2.parquet");
    for format in ["json", "csv", "parquet"] {
        for files in [format.to_owned(), format!("{format}/*.{format}")] {
            let query = format!("SELECT u, x, z FROM '{files}' ORDER BY u");
            assert_eq!(place.asked(&query, &[]), "u,x,z\n1,1.0,\n2,2.5,3\n", "{files}");
        }
    }
    // Texts of both forms.
    copy("SELECT user, 1 AS x FROM (VALUES ('a')) AS t (user)", "text/1.parquet");
    copy(
        "SELECT arrow_cast(user, 'LargeUtf8') AS user, 2 AS x FROM 'text/1.parquet'",
        "text/2.parquet",
    );
    let query = "SELECT user, sum(x) AS x FROM 'text' GROUP BY user";
    assert_eq!(place.asked(query, &[]), "user,x\na,3\n");
}

#[test]
fn files_that_do_not_go_together_are_named() {
    let place = Place::new();
    place.write("csv/1.csv", "a,b\n1,2\n");
    place.write("csv/2.csv", "b,a\n20,10\n");
    for files in ["csv", "csv/*.csv"] {
        let told = refused(&place, &format!("SELECT * FROM '{files}'"));
        let expected =
            "expected the same columns in every file: '1.csv' has a, b, '2.csv' has b, a";
        assert!(told.contains(expected), "{told}");
    }
    place.write("json/1.json", "{\"u\":1}\n");
    place.write("json/2.json", "{\"u\":\"one\"}\n");
    let told = refused(&place, "SELECT * FROM 'json'");
    let expected = "expected one type of 'u' in every file: Int64 in '1.json', Utf8 in '2.json'";
    assert!(told.contains(expected), "{told}");
    place.write("bad.csv", "a,b\n1,2\n1,2,3\n");
    let told = refused(&place, "SELECT * FROM 'bad.csv'");
    assert!(told.contains("bad.csv"), "{told}");
}

/// A quoted value may go over several lines, wherever a file is cut for several partitions.
#[test]
fn line_breaks_in_quoted_values_are_no_ends_of_rows() {
    let place = Place::new();
    let mut text = "id,y,note\n".to_owned();
    for i in 0..60_000 {
        writeln!(text, "{i},{},\"one\n{i},7,two\"", i % 7).unwrap();
    }
    place.write("a.csv", &text);
    let sum: u32 = (0..60_000).map(|i| i % 7).sum();
    for partitions in ["1", "2", "5"] {
        let query = "SELECT count(*) AS n, sum(y) AS y FROM 'a.csv'";
        let found = place.asked(query, &["--partitions", partitions]);
        assert_eq!(found, format!("n,y\n60000,{sum}\n"), "{partitions}");
    }
}
