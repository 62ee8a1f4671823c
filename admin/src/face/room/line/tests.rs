use super::*;

fn typed(words: &str, file: Option<&str>) -> Typed {
    Typed { words: words.split_whitespace().map(str::to_owned).collect(), file: file.map(str::to_owned) }
}

#[test]
fn an_answer_to_a_mistake_repeats_no_secret() {
    let Err(page) = read(typed("server version hunter2", None), true) else { panic!("it takes no argument") };
    assert!(!page.plain.contains("hunter2") && !page.html.contains("hunter2"), "{}", page.plain);
    let Err(page) = read(typed("server version whatever", None), false) else { panic!("it takes no argument") };
    assert!(page.plain.contains("whatever"), "{}", page.plain);
    // Help is help, whatever was written before.
    let Err(page) = read(typed("server version --help", None), true) else { panic!("it is help") };
    assert!(page.plain.contains("Usage: !admin server version"), "{}", page.plain);
}

#[test]
fn a_file_that_nobody_asked_for_keeps_the_command_from_running() {
    let Err(page) = read(typed("server version", Some("a\n")), true) else { panic!("it takes no file") };
    assert!(page.plain.contains("takes no file"), "{}", page.plain);
}

#[test]
fn a_question_names_what_will_happen_and_to_whom() {
    let order = read(typed("admin remove @<b>:hs.test", None), false);
    let Ok(order) = order else { panic!("it is an operation") };
    let page = question(&order.prepared);
    for part in ["admin remove: Make an administrator an ordinary member", "user: @<b>:hs.test", "Say yes within"] {
        assert!(page.plain.contains(part), "{part}: {}", page.plain);
    }
    assert!(page.html.contains("@&lt;b&gt;:hs.test"), "{}", page.html);
}

#[test]
fn what_is_inside_the_server_stays_there() {
    let page = refusal(&AdminError::internal("rocksdb: /var/lib/conduit/store is broken"));
    assert!(!page.plain.contains("rocksdb"), "{}", page.plain);
    assert_eq!(refusal(&AdminError::not_found("no such user")).plain, "no such user");
}
