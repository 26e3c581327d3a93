//! The declarations in Rust against the installed C headers, by way of gcc; no libclang.

use std::io::Write;
use std::process::{Command, Stdio};

use super::{rados, rbd};

/// A function as it was declared in Rust.
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) arguments: &'static [&'static str],
    pub(super) result: &'static str,
}

/// A struct as it is laid out in Rust: its fields' names, types and offsets.
pub(super) struct Struct {
    pub(super) name: &'static str,
    pub(super) size: usize,
    pub(super) fields: &'static [(&'static str, &'static str, usize)],
}

const HEADERS: &str = "#include <stddef.h>\n#include <stdint.h>\n#include <stdbool.h>\n\
    #include <rados/librados.h>\n#include <rbd/librbd.h>\n\
    typedef int (*diff_callback_t)(uint64_t, size_t, int, void *);\n";

/// A Rust type in C's words. Types that C knows by the same name stay as they are.
fn in_c(rust: &str) -> String {
    if let Some(pointee) = rust.strip_prefix("*mut ") {
        return format!("{} *", in_c(pointee));
    }
    if let Some(pointee) = rust.strip_prefix("*const ") {
        return format!("{} const *", in_c(pointee));
    }
    if let Some((element, count)) = rust.strip_prefix('[').and_then(|array| array.split_once(';')) {
        return format!("{}[{}]", in_c(element), count.trim_matches([' ', ']']));
    }
    match rust {
        "" => "void",
        "c_char" => "char",
        "c_uchar" => "unsigned char",
        "c_int" => "int",
        "c_void" => "void",
        "u8" => "uint8_t",
        "u64" => "uint64_t",
        "i64" => "int64_t",
        "u32" => "uint32_t",
        "usize" => "size_t",
        "isize" => "ssize_t",
        "timespec" => "struct timespec",
        "timeval" => "struct timeval",
        same => same,
    }
    .to_owned()
}

fn redeclaration(function: &Function) -> String {
    let arguments: Vec<_> = function.arguments.iter().map(|argument| in_c(argument)).collect();
    let arguments = if arguments.is_empty() { "void".to_owned() } else { arguments.join(", ") };
    format!("extern {} {}({arguments});\n", in_c(function.result), function.name)
}

fn assertions(of: &Struct) -> String {
    let name = of.name;
    let mut text = format!("_Static_assert(sizeof({name}) == {}, \"size of {name}\");\n", of.size);
    for (field, rust, offset) in of.fields {
        let c = in_c(rust);
        text += &format!(
            "_Static_assert(offsetof({name}, {field}) == {offset}, \"offset of {name}.{field}\");\n\
             _Static_assert(__builtin_types_compatible_p(__typeof__((({name} *)0)->{field}), {c}), \
             \"type of {name}.{field}\");\n"
        );
    }
    text
}

fn constants(of: &[(&str, i128)]) -> String {
    let line = |(name, value): &(&str, i128)| {
        format!("_Static_assert({name} == {value}, \"value of {name}\");\n")
    };
    of.iter().map(line).collect()
}

#[expect(clippy::disallowed_methods, reason = "a test's own child, which ends by itself")]
/// What gcc says of the text after the headers; `Ok` if nothing.
fn compile(text: &str) -> Result<(), String> {
    let mut gcc = Command::new("gcc")
        .args(["-x", "c", "-std=gnu11", "-fsyntax-only", "-Wno-deprecated-declarations", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("gcc, with librados-dev and librbd-dev, is needed to build this crate");
    let mut input = gcc.stdin.take().expect("its standard input is a pipe");
    input.write_all(HEADERS.as_bytes()).expect("gcc reads");
    input.write_all(text.as_bytes()).expect("gcc reads");
    drop(input);
    let output = gcc.wait_with_output().expect("gcc ends");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() && errors.is_empty() { Ok(()) } else { Err(errors) }
}

#[test]
fn every_declaration_agrees_with_the_installed_headers() {
    let functions = [rados::BORROWED, rados::OWN, rbd::OWN];
    let functions: String = functions.into_iter().flatten().map(redeclaration).collect();
    let structs: String = rbd::STRUCTS.iter().map(assertions).collect();
    let values = constants(rados::CONSTANTS) + &constants(rbd::CONSTANTS);
    compile(&(functions + &structs + &values)).expect("declarations and headers agree");
}

#[test]
fn a_wrong_declaration_is_caught() {
    let right = Function { name: "rbd_close", arguments: &["rbd_image_t"], result: "c_int" };
    compile(&redeclaration(&right)).expect("the right one passes");
    for (arguments, result) in [
        (&["rbd_image_t", "u64"][..], "c_int"),
        (&["*const c_char"][..], "c_int"),
        (&["rbd_image_t"][..], "i64"),
        (&["rbd_image_t"][..], ""),
    ] {
        let wrong = Function { name: "rbd_close", arguments, result };
        let error = compile(&redeclaration(&wrong)).expect_err("a wrong one passed");
        assert!(error.contains("conflicting types for"), "{error}");
    }
}

#[test]
fn a_wrong_layout_or_value_is_caught() {
    let name = "rbd_image_watcher_t";
    for (size, field, what) in [
        (16, ("addr", "*mut c_char", 0), "size of"),
        (24, ("cookie", "u64", 8), "offset of"),
        (24, ("cookie", "i64", 16), "type of"),
    ] {
        let fields = Box::leak(Box::new([field]));
        let error = compile(&assertions(&Struct { name, size, fields })).expect_err("wrong");
        assert!(error.contains(what), "{error}");
    }
    assert!(compile(&constants(&[("RBD_IMAGE_OPTION_ORDER", 3)])).is_err());
}
