//! Components of odd shapes.

/// The length of the LEB128 number that `bytes` start with, and its value.
fn number(bytes: &[u8]) -> (usize, usize) {
    let length = 1 + bytes.iter().position(|byte| byte & 0x80 == 0).unwrap();
    (length, bytes[..length].iter().rev().fold(0, |value, byte| value << 7 | usize::from(byte & 0x7f)))
}

/// The sections of a component, with what stands before the content of each.
fn sections(component: &[u8]) -> Vec<&[u8]> {
    let mut left = &component[8..];
    let mut found = Vec::new();
    while let Some((_, rest)) = left.split_first() {
        let (digits, size) = number(rest);
        let (section, after) = left.split_at(1 + digits + size);
        found.push(section);
        left = after;
    }
    found
}

/// The number of a section that is a core module.
const CORE_MODULE: u8 = 1;

/// A component, and behind all that it does, `count` more instances of a core module.
pub(crate) fn with_instances(component: &[u8], module: &str, count: usize) -> Vec<u8> {
    let own = sections(component).iter().filter(|section| section[0] == CORE_MODULE).count();
    // In the text, as many modules stand before it as in the component.
    let text = format!(
        "(component {} (core module $m {module}) {})",
        "(core module)".repeat(own),
        "(core instance (instantiate $m))".repeat(count)
    );
    let more = wat::parse_str(text).unwrap();
    let more: Vec<_> = sections(&more).into_iter().skip(own).collect();
    [component, &more.concat()].concat()
}

/// A component around the bytes of a core module, whatever they are.
pub(crate) fn holding(module: &[u8]) -> Vec<u8> {
    let empty = around("");
    let mut length = Vec::new();
    let mut left = module.len();
    while left > 0x7f {
        length.push(0x80 | u8::try_from(left & 0x7f).unwrap());
        left >>= 7;
    }
    length.push(u8::try_from(left).unwrap());
    [&empty[..8], &[CORE_MODULE], &length, module, &empty[8..]].concat()
}

/// A component that holds these parts, and exports what an op component does; nothing is in it.
pub(crate) fn around(parts: &str) -> Vec<u8> {
    wat::parse_str(format!("(component {parts} (instance $i) (export \"opyard:op/ops@0.1.0\" (instance $i)))")).unwrap()
}
