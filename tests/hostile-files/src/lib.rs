//! Workflow files that attack a parser's time and memory: alias bombs, depth, size, numbers.
//!
//! A separate crate, so that the tests of the parser and those of the binary use the same files.

/// Names and contents; all must be refused.
pub fn files() -> Vec<(&'static str, Vec<u8>)> {
    let numbered = |n: usize, line: &dyn Fn(usize) -> String| (0..n).map(line).collect::<String>();
    let head = "workflow:\n  id: x\n  steps:\n    - { id: a, type: annotation }\n";
    let conditions = |text: &dyn Fn(usize) -> String| {
        let line = |n| {
            let text = text(n);
            format!(
                "    - {{ from: a, to: _complete, condition: {{ type: expression, expression: \"{text}\" }} }}\n"
            )
        };
        format!("{head}  transitions:\n{}", numbered(2_000, &line))
    };
    vec![
        (
            "alias bomb",
            numbered(60, &|n| match n {
                0 => "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(),
                n => format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", ")),
            })
            .into_bytes(),
        ),
        (
            "alias of a long text",
            format!("a: &a '{}'\nb: [{}]\n", "x".repeat(900_000), ["*a"; 5_000].join(", ")).into_bytes(),
        ),
        ("alias of itself", b"workflow: &a { id: *a }".to_vec()),
        (
            "chain of aliases",
            numbered(2_000, &|n| match n {
                0 => "a0: &a0 [x]\n".to_owned(),
                n => format!("a{n}: &a{n} [*a{}]\n", n - 1),
            })
            .into_bytes(),
        ),
        (
            "10,000 steps",
            format!("workflow:\n  id: x\n  steps:\n{}", numbered(10_000, &|n| format!("    - {{ id: s{n}, type: annotation }}\n"))).into_bytes(),
        ),
        (
            "501 steps",
            format!("workflow:\n  id: x\n  steps:\n{}", numbered(501, &|n| format!("    - {{ id: s{n}, type: annotation }}\n"))).into_bytes(),
        ),
        ("depth 10,000 in brackets", format!("workflow: {}", "[".repeat(10_000)).into_bytes()),
        ("depth 10,000 in braces", "{a: ".repeat(10_000).into_bytes()),
        ("depth 10,000 in dashes", "- ".repeat(10_000).into_bytes()),
        ("depth 1,000 by indent", numbered(1_000, &|n| format!("{}a:\n", " ".repeat(n))).into_bytes()),
        ("10 MiB", vec![b'#'; 10 << 20]),
        ("1 MiB of one text", format!("workflow: '{}'", "x".repeat((1 << 20) - 20)).into_bytes()),
        ("not UTF-8", b"workflow: \xff\xfe".to_vec()),
        ("control characters", b"workflow: \x00\x01".to_vec()),
        ("20,000 unknown keys", format!("{head}{}", numbered(20_000, &|n| format!("  unknown-key-{n}: 1\n"))).into_bytes()),
        (
            "4,000 unknown steps",
            format!("{head}  transitions:\n{}", numbered(2_000, &|n| format!("    - {{ from: b{n}, to: c{n} }}\n"))).into_bytes(),
        ),
        (
            "library step taken 500 times",
            format!(
                "workflow:\n  id: x\n  steps:\n{}step_library:\n  big: {{ type: annotation, classes: [{}] }}\n",
                numbered(500, &|n| format!("    - {{ id: s{n}, ref: big }}\n")),
                ["x"; 20_000].join(", ")
            )
            .into_bytes(),
        ),
        ("2,000 long expressions", conditions(&|n| format!("agreement > {n} && {}", ["1 < 2"; 40].join(" && "))).into_bytes()),
        ("2,000 deep expressions", conditions(&|n| format!("{}{n}{}", "(".repeat(99), ")".repeat(99))).into_bytes()),
    ]
}
