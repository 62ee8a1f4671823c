//! Writing JSON straight into the answer's bytes.

use std::io::Write;

/// An object being written.
pub(crate) struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    pub fn open(out: &'a mut Vec<u8>) -> Object<'a> {
        out.push(b'{');
        Object { out, empty: true }
    }

    /// Begins a member; its value is to be written into what is returned.
    pub fn key(&mut self, key: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        write_text(self.out, key);
        self.out.push(b':');
        self.out
    }

    pub fn text(&mut self, key: &str, value: &str) {
        write_text(self.key(key), value);
    }

    pub fn number(&mut self, key: &str, value: u64) {
        write_number(self.key(key), value);
    }

    pub fn bool(&mut self, key: &str, value: bool) {
        let text: &[u8] = if value { b"true" } else { b"false" };
        self.key(key).extend_from_slice(text);
    }

    pub fn raw(&mut self, key: &str, value: &str) {
        self.key(key).extend_from_slice(value.as_bytes());
    }

    /// A member that may turn out to have nothing in it: if `write` says so, it is taken back.
    pub fn optional<E>(&mut self, key: &str, write: impl FnOnce(&mut Vec<u8>) -> Result<bool, E>) -> Result<bool, E> {
        let (before, was_empty) = (self.out.len(), self.empty);
        let written = write(self.key(key))?;
        if !written {
            self.out.truncate(before);
            self.empty = was_empty;
        }
        Ok(written)
    }

    /// `"key":{"events":[…]}`, taken back if `write` adds no event.
    pub fn events<E>(&mut self, key: &str, write: impl FnOnce(&mut Array<'_>) -> Result<(), E>) -> Result<bool, E> {
        self.optional(key, |out| {
            out.extend_from_slice(b"{\"events\":");
            let mut array = Array::open(out);
            write(&mut array)?;
            let any = array.close();
            out.push(b'}');
            Ok(any)
        })
    }

    /// Ends the object; says whether it has members.
    pub fn close(self) -> bool {
        self.out.push(b'}');
        !self.empty
    }
}

/// An array being written.
pub(crate) struct Array<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Array<'a> {
    pub fn open(out: &'a mut Vec<u8>) -> Array<'a> {
        out.push(b'[');
        Array { out, empty: true }
    }

    /// Begins an item; it is to be written into what is returned.
    pub fn item(&mut self) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out
    }

    pub fn text(&mut self, text: &str) {
        write_text(self.item(), text);
    }

    pub fn raw(&mut self, json: &str) {
        self.item().extend_from_slice(json.as_bytes());
    }

    /// Ends the array; says whether it has items.
    pub fn close(self) -> bool {
        self.out.push(b']');
        !self.empty
    }
}

/// `{"type":…,"content":…}`, the shape of account data.
pub(crate) fn write_typed(out: &mut Vec<u8>, kind: &str, content: &str) {
    let mut event = Object::open(out);
    event.raw("content", content);
    event.text("type", kind);
    event.close();
}

pub(crate) fn write_number(out: &mut Vec<u8>, number: u64) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{number}");
}

/// A JSON string.
pub(crate) fn write_text(out: &mut Vec<u8>, text: &str) {
    let plain = text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\');
    if plain {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        spec::canonical::write_into(out, &text);
    }
}
