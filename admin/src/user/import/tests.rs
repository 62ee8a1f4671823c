use super::*;

fn fields(text: &str) -> Vec<(usize, Vec<String>)> {
    parse_csv(text).unwrap().into_iter().map(|record| (record.line, record.fields)).collect()
}

fn record(line: usize, fields: &[&str]) -> (usize, Vec<String>) {
    (line, fields.iter().map(ToString::to_string).collect())
}

#[test]
fn records_have_their_lines_and_quoted_fields() {
    let text = "name,displayname\r\nanna,\"Anna, of \"\"here\"\"\"\n\nbert,\"two\nlines\"\ncarla,C";
    let wanted = [
        record(1, &["name", "displayname"]),
        record(2, &["anna", "Anna, of \"here\""]),
        record(4, &["bert", "two\nlines"]),
        record(6, &["carla", "C"]),
    ];
    assert_eq!(fields(text), wanted);
    assert_eq!(fields("\u{feff}name\n"), [record(1, &["name"])]);
    assert_eq!(fields(""), []);
}

#[test]
fn what_is_no_list_is_refused() {
    assert!(parse_csv("name\n\"open").unwrap_err().to_string().contains("line 2"));
    let header = |text: &str| Columns::read(&parse_csv(text).unwrap()[0]);
    assert!(header("name,passwort").unwrap_err().to_string().contains("passwort"));
    assert!(header("password").unwrap_err().to_string().contains("name"));
    assert_eq!(header(" Name , ROLE ").unwrap().role, Some(1));
}

#[test]
fn lines_that_repeat_an_earlier_one_are_found() {
    let records = parse_csv("name,email\nanna,a@x.org\nbert,\n ANNA ,\ncarla,\ndora,A@x.org\nbert,a@x.org").unwrap();
    let repeats = Columns::read(&records[0]).unwrap().find_repeats(&records[1..]);
    assert_eq!(repeats, HashMap::from([(4, 2), (6, 2), (7, 3)]));
}
