"""Where a file of Rust can be changed by one small mistake, and how."""

from dataclasses import dataclass

import tree_sitter
import tree_sitter_rust

PARSER = tree_sitter.Parser(tree_sitter.Language(tree_sitter_rust.language()))

OPERATORS = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "&&": "||", "||": "&&", "+": "-", "-": "+", "*": "/",
}
METHODS = {
    "min": "max", "max": "min", "any": "all", "all": "any", "is_some": "is_none", "is_none": "is_some",
    "is_some_and": "is_none_or", "is_none_or": "is_some_and", "first": "last", "last": "first",
}
# What a function gives instead of its own result, by the type that it returns.
RESULTS = {"bool": ("true", "false"), "Option": ("None",), "Vec": ("Vec::new()",)}
# Parts of a file in which nothing can be decided while the program runs, or which are tests.
FIXED = {"const_item", "static_item", "attribute_item", "macro_definition", "array_type", "enum_variant", "use_declaration"}
PATTERNS = {"match_pattern", "range_pattern", "tuple_pattern", "tuple_struct_pattern", "struct_pattern", "or_pattern"}


@dataclass(frozen=True)
class Point:
    """One mistake: the bytes of a file that it replaces, by what, and the rest of what is needed around them."""

    path: str
    line: int
    start: int
    end: int
    original: str
    mutated: str
    # `expression`: either text is a value. `statement`: the original is run or not. `result`: returned at the start of a body.
    kind: str

    def switched(self, number, is_active):
        """The text that behaves as the original unless `is_active(number)`."""
        active = f"{is_active}({number})"
        if self.kind == "expression":
            return f"(if {active} {{ {self.mutated} }} else {{ {self.original} }})"
        if self.kind == "statement":
            return f"if !{active} {{ {self.original} }}"
        return f"{{ if {active} {{ return {self.mutated}; }}"

    def __str__(self):
        def short(text):
            return " ".join(text.split())[:90]

        what = {
            "expression": f"`{short(self.original)}` -> `{short(self.mutated)}`",
            "statement": f"without `{short(self.original)}`",
            "result": f"{self.original} gives `{self.mutated}`",
        }
        return f"{self.path}:{self.line}: {what[self.kind]}"


def points(path, source):
    """All points of a file, in its order."""
    found = []

    def text(node):
        return source[node.start_byte:node.end_byte].decode()

    def add(node, mutated, kind="expression", start=None, end=None, original=None):
        found.append(
            Point(
                path,
                node.start_point[0] + 1,
                node.start_byte if start is None else start,
                node.end_byte if end is None else end,
                text(node) if original is None else original,
                mutated,
                kind,
            )
        )

    def around(node, part, replacement):
        """The text of `node` with another one in the place of its `part`."""
        before = source[node.start_byte:part.start_byte].decode()
        after = source[part.end_byte:node.end_byte].decode()
        return before + replacement + after

    def visit(node):
        kind = node.type
        if kind in FIXED or is_test(node, text):
            return
        if kind == "function_item":
            if any(text(child).find("const") >= 0 for child in node.children if child.type == "function_modifiers"):
                return
            whole_result(node)
        if kind in PATTERNS:
            # Only a guard is an expression.
            guard = node.child_by_field_name("condition")
            if guard is not None and guard.type not in ("let_chain", "let_condition"):
                add(guard, "false")
                visit(guard)
            return
        if kind == "binary_expression" and not has_let(node):
            operator = node.child_by_field_name("operator")
            if (other := OPERATORS.get(text(operator))) is not None:
                add(node, around(node, operator, other))
        elif kind == "unary_expression" and text(node).startswith("!"):
            add(node, text(node.named_children[0]))
        elif kind == "if_expression":
            condition = node.child_by_field_name("condition")
            if condition.type not in ("let_chain", "let_condition"):
                add(condition, "true")
                add(condition, "false")
        elif kind == "integer_literal" and node.parent.type != "field_expression":
            add(node, f"{text(node)} + 1")
        elif kind == "call_expression":
            function = node.child_by_field_name("function")
            if function.type == "field_expression":
                method = function.child_by_field_name("field")
                if (other := METHODS.get(text(method))) is not None:
                    add(node, around(node, method, other))
        elif kind == "expression_statement" and text(node).endswith(";"):
            inner = node.named_children[0].type
            if inner in ("call_expression", "assignment_expression", "compound_assignment_expr", "try_expression", "await_expression"):
                add(node, "", "statement")
        for child in node.named_children:
            visit(child)

    def whole_result(function):
        result, body = function.child_by_field_name("return_type"), function.child_by_field_name("body")
        if result is None or body is None:
            return
        name = text(result).split("<")[0]
        for value in RESULTS.get(name, ()):
            original = f"`{text(function.child_by_field_name('name'))}`"
            add(function, value, "result", body.start_byte, body.start_byte + 1, original)

    visit(PARSER.parse(source).root_node)
    return found


def has_let(node):
    return node.type == "let_condition" or any(has_let(child) for child in node.named_children)


def is_test(node, text):
    before = node.prev_named_sibling
    return node.type == "mod_item" and before is not None and before.type == "attribute_item" and "test" in text(before)
