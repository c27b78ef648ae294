"""The reader of saved environments, against itself and against bash.

Its parts are portage_p2pbin.binpkg.environment_variables for the lines before the functions, portage_p2pbin.binpkg.environment_functions
for the rest, and below that portage_p2pbin.binpkg.environment_commands and portage_p2pbin.binpkg.environment_words.
"""

import os
import re
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portage_p2pbin.binpkg import environment_names as names
from portage_p2pbin.binpkg import environment_words
from portage_p2pbin.binpkg.environment import LARGEST_ENVIRONMENT, MOST_VARIABLES, parse
from portage_p2pbin.binpkg.environment_functions import MOST_FUNCTIONS, read_functions
from portage_p2pbin.binpkg.environment_variables import Variable, quote, read_variable, unquote
from portage_p2pbin.kernel.errors import RefusedError
from tests.bash import bash, functions, printed

# One of each form, as bash prints it and Portage saves it.
SAVED = rb"""declare -x CHOST="x86_64-pc-linux-gnu"
declare DEPEND=""
declare -a DOCS=([0]="README" [1]="a b")
declare INHERITED
declare -x MY_TOKEN="secret"
declare -x NAMED="yes"
declare -x PYTHONPATH="/home/me"
declare -x TZ="Europe/Vienna"
declare -A sizes=([small]="1" ["very large"]="2" )
declare -- text=$'two\nlines'
"""
POSTINST = b'pkg_postinst () \n{ \n    elog "${NAMED}"\n}\n'
EBUILD = b"EAPI=8\n# MENTIONED_IN_EBUILD\n"


def body(text: str) -> bytes:
    return f"f () \n{{ \n{text}\n}}\n".encode()


def refusal(text: bytes) -> str:
    with pytest.raises(RefusedError) as refused:
        parse(text)
    assert refused.value.rule == "P2.4"
    return refused.value.reason


# --- Variables --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "variable"),
    [
        (b'declare -- V="x"', Variable(b"V", b"-", b"x")),
        (b'declare V="x"', Variable(b"V", b"-", b"x")),
        (b"declare V", Variable(b"V", b"-", None)),
        (b"declare -x V", Variable(b"V", b"x", None)),
        (b"declare -a V", Variable(b"V", b"a", None)),
        (b'declare -x V="a\\"\\$\\`\\\\ \'!"', Variable(b"V", b"x", b"a\"$`\\ '!")),
        (b"declare -- V=$'a\\n\\t\\E\\a\\b\\v\\f\\r\\303\\251\\'\\\\'", Variable(b"V", b"-", b"a\n\t\x1b\a\b\v\f\r\xc3\xa9'\\")),
        ('declare -- V="é"'.encode(), Variable(b"V", b"-", "é".encode())),
        (b"declare -a V=()", Variable(b"V", b"a", ())),
        (b"declare -a V=([0]=\"a\" [7]=$'b\\n')", Variable(b"V", b"a", ((0, b"a"), (7, b"b\n")))),
        (b"declare -A V=()", Variable(b"V", b"A", ())),
        (b'declare -A V=([b]="1" ["a ]"]="2" )', Variable(b"V", b"A", ((b"a ]", b"2"), (b"b", b"1")))),
        (b'declare -A V=(["b"]="1")', Variable(b"V", b"A", ((b"b", b"1"),))),
    ],
)
def test_a_line_that_bash_prints_is_read(line, variable):
    assert read_variable(line) == variable
    assert read_variable(variable.line()) == variable


ANY_VALUE = st.binary(max_size=30).map(lambda value: value.replace(b"\0", b"")) | st.text(
    alphabet="ab\"'$`\\ \n\t!~#=:@*?[](){}<>|&;^%é€\x01\x1b\x7f", max_size=20
).map(str.encode)
LOCALES = st.sampled_from(["C", "C.UTF-8"])


@given(ANY_VALUE, LOCALES)
def test_what_bash_prints_for_a_value_is_read_as_that_value(value, locale):
    assert read_variable(printed([value], 'V="$V0"', locale)).value == value


@given(st.lists(ANY_VALUE, max_size=4), LOCALES)
def test_what_bash_prints_for_an_array_is_read_as_that_array(values, locale):
    make = "V=(" + " ".join(f'[{3 * number}]="$V{number}"' for number in range(len(values))) + ")"
    assert read_variable(printed(values, make, locale)).value == tuple((3 * number, value) for number, value in enumerate(values))


@given(st.dictionaries(ANY_VALUE.filter(bool), ANY_VALUE, max_size=4), LOCALES)
def test_what_bash_prints_for_an_associative_array_is_read_as_that_array(values, locale):
    flat = [part for pair in values.items() for part in pair]
    make = "declare -A V=(" + " ".join(f'["$V{number}"]="$V{number + 1}"' for number in range(0, len(flat), 2)) + ")"
    assert read_variable(printed(flat, make, locale)).value == tuple(sorted(values.items()))


@given(ANY_VALUE, st.dictionaries(ANY_VALUE.filter(bool), ANY_VALUE, max_size=3), LOCALES)
def test_bash_reads_what_we_write(value, pairs, locale):
    lines = [Variable(b"S", b"-", value), Variable(b"I", b"a", ((0, value), (5, b"x"))), Variable(b"K", b"A", tuple(sorted(pairs.items())))]
    text = b"".join(variable.line() + b"\n" for variable in lines)
    say = 'printf "%s\\0" "$S" "${!I[*]}" "${I[0]}"; for k in "${!K[@]}"; do printf "%s\\0" "$k" "${K[$k]}"; done'
    said = bash(f"LC_ALL={locale}; source /dev/stdin; {say}", text).split(b"\0")[:-1]
    assert said[:3] == [value, b"0 5", value]
    assert dict(zip(said[3::2], said[4::2], strict=True)) == pairs


@given(ANY_VALUE)
def test_a_value_is_quoted_in_printable_ascii_on_one_line(value):
    assert re.fullmatch(rb"[\x20-\x7e]*", quote(value))
    assert unquote(quote(value)) == value


@pytest.mark.parametrize(
    "line",
    [
        b'declare -i V="1"',  # a[$(id)] would run
        b'declare -r V="1"',
        b'declare -n V="PATH"',
        b'declare -l V="a"',
        b'declare -ax V=([0]="a")',
        b'declare -g V="1"',
        b"declare -- V=1",
        b"declare -- V='1'",
        b'declare -- V="1"; id',
        b'declare -- V="1" id',
        b'declare -x A="1" PATH="/tmp"',
        b'declare -- V="1" ',
        b'declare -- V="1"\r',
        b'declare -- V="1"2',
        b'declare -- V+="1"',
        b'declare -- V[0]="1"',
        b'declare -- 1V="1"',
        'declare -- É="1"'.encode(),
        b'declare  -- V="1"',
        b'declare --  V="1"',
        b'declare -- V="$(id)"',
        b'declare -- V="`id`"',
        b'declare -- V="$HOME"',
        b'declare -- V="\\a"',
        b'declare -- V="a\tb"',
        b'declare -- V="a\x7fb"',
        b'declare -- V="a',
        b'declare -- V="a\\"',
        b"declare -- V=$'a",
        b"declare -- V=$'a\\'",
        b"declare -- V=$'\\x41'",
        b"declare -- V=$'\\u0041'",
        b"declare -- V=$'\\cA'",
        b"declare -- V=$'\\1'",
        b"declare -- V=$'\\477'",
        b"declare -- V=$'\\e'",
        b"declare -- V=$'a\tb'",
        b'declare -- V=$"a"',
        b'declare -- V=([0]="a")',
        b'declare -a V="a"',
        b"declare -a V=(",
        b'declare -a V=([0]="a"',
        b'declare -a V=([0]="a" )',
        b'declare -a V=( [0]="a")',
        b'declare -a V=([0]="a"[1]="b")',
        b'declare -a V=([0]="a"  [1]="b")',
        b'declare -a V=("a")',
        b'declare -a V=([a]="a")',
        b'declare -a V=([$(id)]="a")',
        b'declare -a V=([00]="a")',
        b'declare -a V=([1_0]="a")',
        b'declare -a V=([-1]="a")',
        b'declare -a V=([0+1]="a")',
        b'declare -A V=([$(id)]="a" )',
        b'declare -A V=([a b]="a" )',
        b'declare -A V=([a"b"]="a" )',
        b'declare -A V=([a]="a"  )',
        b'declare -A V=(["a"]="$(id)" )',
    ],
)
def test_a_line_that_bash_does_not_print_is_refused(line):
    with pytest.raises(RefusedError, match=r"not (one literal declaration|a literal value)"):
        read_variable(line)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'declare -a V=([1]="a" [0]="b")', "array indexes must rise"),
        (b'declare -a V=([1]="a" [1]="b")', "array indexes must rise"),
        (b'declare -a V=([1000001]="a")', "array indexes must rise, to at most 1000000"),
        (b'declare -A V=([a]="1" ["a"]="2" )', "a key that is empty, unquoted or there twice"),
        (b'declare -A V=([""]="1" )', "a key that is empty"),
        (b'declare -A V=([@]="1" )', "a key that is empty, unquoted"),
        (b"declare -- " + b"V" * 256 + b'="1"', "a variable's name has 256 bytes; at most 255 are allowed"),
    ],
)
def test_a_line_is_refused_for_its_reason(line, reason):
    with pytest.raises(RefusedError, match=re.escape(reason)):
        read_variable(line)


# --- Functions --------------------------------------------------------------------------------------------------------------------

DEFINITIONS = r"""
heredocs() { cat <<EOF
$a } \$b
EOF
cat <<-'end of it' | tee x
	}
	end of it
while read -r x; do cat <<<"$x"; done <<A 2>&1
b
A
}
groups() { { a; } && ( b; c ) || ! d | e &> f; if ! { a; }; then b; elif (c); then d; else e; fi > f 2>&1 < g; time { a; }; }
loops() { for ((i=0; i<3; i++)); do a & done; for x in a "b c" $d; do e; done; for y; do z; done
while a; do b; done < <(c); until a; do b; done
select x in y; do z; done; }
cases() { case $x in a) ;; b|"c d") e ;& @(f|g)) h ;;& *) i; esac; x=$(case $y in a) b;; esac); }
words() { a=1 b+=2 c; d=(1 "2 3" [5]=6 $(e)); local -a f=([x y]=1); g[1 + 2]=3
echo "${h[@]:-"i"}" "${j:-'}'}" ${k%%\}*} ${l//\'/\"} $((1 + (2) )) $[3]
echo `m \` n` $'o\'p' $"q" $$ $# r\;s "t\"u $(v "w") `x`" {y,z} } if { a#b; }
conditions() { [[ -n $a && ( $b == @(c|d) || $e =~ ^(f|g h)[[:space:]]+$ ) && ! $i < $j ]]
(( k = (1 + 2) * 3 )); [ "a" = "b" ]; let l=1; }
inner() { m() { n; }; function o { p; }; echo "$({ q; }; (r))" <(s) > >(t); }
redirected() { a; } 2>&1 > b
substituted() { x=$(cat <<E
b
E
); y=$(if a; then b; fi; for c in d; do e; done
f); }
exported() { a; }; export -f exported
name.with-dots() { a; }
"""


def test_bash_prints_again_what_was_read():
    text = functions(DEFINITIONS)
    found = read_functions(text)
    assert b"".join(function.text for function in found) == text
    assert [function.name.decode() for function in found] == sorted(re.findall(r"(?m)^([-a-z.]+)\(\)", DEFINITIONS))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("    id\n}\nid", "not a function's definition"),
        ("    id\n}; id", "something behind a function"),
        ("    id\n} id", "something behind a function"),
        ("    id\n} > $(a\nb)", "more than a line behind a function"),
        ("    id\n    }\n    id", "a function that ends within a line"),
        ("    id; }\n    id", "a function that ends within a line"),
        ("    echo {;\n    }\n    id", "a function that ends within a line"),
        ("    (\n    }\n    id", "} closes nothing"),
        ("    { id )", "a bracket that closes nothing"),
        ("    if a; then b; done", "done closes nothing"),
        ("    while a; then b; done", "then closes nothing"),
        ("    for a; do b; fi", "fi closes nothing"),
        ("    esac", "esac closes nothing"),
        ("    id\nid", "a line that is not indented"),
        ("    # }\n    id", "a comment"),
        ("    id # }", "a comment"),
        ("    id \\\n}", "a line that goes on in the next"),
        ('    id "\\\n"', "a line that goes on in the next"),
        ("    id `\\\n`", "a line that goes on in the next"),
        ("    cat <<E\n    a\\\nE\nid\nE", "a line that goes on in the next"),
        ("    cat <<E\n    a", "a here-document without an end"),
        ("    cat <<$E\n$E", "not a here-document's plain delimiter"),
        ("    cat <<E'F'\nEF", "not a here-document's plain delimiter"),
        ("    cat <<'E'F\nEF", "not a here-document's plain delimiter"),
        ("    cat <<E\r\nE\r", "not a here-document's plain delimiter"),
        ("    {\r\n    }\n    id", "a function that ends within a line"),
        ("    a\tb", "out of place"),
        ("    time\t-p { a; }", "out of place"),
        ("    cat <<E 'a\nE\nb'\nE", "a here-document announced in a line that is no line"),
        ("    a=$(cat <<E)\nE", "a here-document that never begins"),
        ("    a=$(cat <<E\nE)\nE\n)", "a here-document that some versions of bash end here"),
        ("    echo 'a", "a quote without an end"),
        ('    echo "a', "a quote without an end"),
        ("    echo $'a\\'", "a quote without an end"),
        ("    echo `a", "a backquote without an end"),
        ("    echo ${a", "a line that is not indented"),
        ("    echo $((1)", "no ')'"),
        ("    echo $(a", "} closes nothing"),
        ("    echo ${ id; }", "newer versions of bash run"),
        ("    echo ${|id; }", "newer versions of bash run"),
        ("    echo ${a:-<(id)}", "a process substitution within a substitution"),
        ("    a[b;c]=1", "not a plain subscript"),
        ("    a[\n    ]=1", "not a plain subscript"),
        ("    a[ #b]=1", "not a plain subscript"),
        ("    a=(b; c)", "not a plain array"),
        ("    a=(b\n    c)", "not a plain array"),
        ("    echo @()", "an empty pattern"),
        ("    !(id)", "a command that is a pattern"),
        ("    echo (a)", "a bracket out of place"),
        ("    ((1)\n)", "not an arithmetic command"),
        ("    [[ -n $a\n    ]]", "out of place"),
        ("    [[ -n $a; ]]", "out of place"),
        ("    [[ ( -n $a ]]", "brackets in a condition are not in pairs"),
        ("    [[ a ]] b", "a word behind a compound command"),
        ("    { a; } }", "a word behind a compound command"),
        ("    coproc { a; }", "coproc"),
        ("    in a", "the word in"),
        ("    time -p { a; }", "the word time"),
        ("    for a do b; done", "without “in”"),
        ("    case a do b) c;; esac", "without “in”"),
        ("    case a\n    in b) c;; esac", "a line ends too early"),
        ("    case a in b | esac) c;; esac", "esac as a pattern"),
        ("    case a in b; c) d;; esac", "out of place"),
        ("    a;;", "out of place"),
        ("    a; ;", "out of place"),
        ("    a &&& b", "out of place"),
        ("    a >", "out of place"),
        ("    for > a in b; do c; done", "a redirection out of place"),
        ("    function g { a; }", "not a function within a function"),
        ("    function g () \n    ( a )", "not a function within a function"),
        ("    g () \n    { \n        a\n    }", "a bracket out of place"),
        ("    echo a\x01", "the byte 1 in a function"),
        ("    echo a\x7f", "the byte 127 in a function"),
        ("    echo " + "$(" * 41 + ")" * 41, "more than 40 things inside each other"),
    ],
)
def test_what_bash_does_not_print_for_a_function_is_refused(text, reason):
    assert reason in refusal(body(text))


@pytest.mark.parametrize(
    "text",
    [
        b"id\n",
        b"f()\n{ \n    a\n}\n",
        b"f () \n( a )\n",
        b"function f () \n{ \n    a\n}\n",
        b"f () \n{ \n    a\n}",
        b"\n",
        b"f$(id) () \n{ \n    a\n}\n",
    ],
)
def test_only_definitions_as_bash_prints_them_stand_behind_the_variables(text):
    assert re.search("not a function's definition|something behind a function", refusal(b'declare -- V=""\n' + text))


def test_a_declaration_behind_a_function_belongs_to_it_or_is_refused():
    function = body("    a")
    assert parse(function + b"declare -fx f\n").functions[0].text.endswith(b"declare -fx f\n")
    assert "not a function's definition" in refusal(function + b"declare -fx g\n")
    assert "not a function's definition" in refusal(function + b'declare -x V="1"\n')


def test_a_word_reads_the_same_with_and_without_the_short_way(monkeypatch):
    text = functions(DEFINITIONS)
    short = read_functions(text)
    monkeypatch.setattr(environment_words, "_SIMPLE_WORD", re.compile(rb"(?!)"))
    assert read_functions(text) == short


PIECES = [
    "}",
    "{",
    "{ ",
    "\n",
    ";",
    "'",
    '"',
    "`",
    "$(",
    ")",
    "(",
    "${",
    "\\",
    " #",
    "<<E\n",
    "\nE\n",
    "fi",
    "esac",
    ";;",
    "done",
    "do ",
    "[[ ",
]
PIECES += [
    " ]]",
    "\n}\n",
    "\n    }\n",
    "((",
    "))",
    "$'",
    "[",
    "]",
    "=(",
    "&",
    "|",
    "function ",
    " () \n",
    "<(",
    "!(",
    "@(",
    " in ",
    "$",
    "case x in ",
]
REPORT = """
command_not_found_handle() { echo "ran: $*"; }
enable -n $(compgen -b | grep -vxE '[.]|source|enable|compgen|echo')
PATH=
source /dev/stdin 2>/dev/null
compgen -A function
"""


@given(st.data())
def test_of_a_changed_function_that_is_read_bash_runs_nothing(data):
    text = functions(DEFINITIONS).decode()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.sampled_from(PIECES)) + text[at + data.draw(st.integers(0, 3)) :]
    try:
        found = {function.name.decode() for function in read_functions(text.encode())}
    except RefusedError:
        return
    ran = set(bash(f"shopt -s extglob {REPORT}", text.encode()).decode().split("\n")) - {"", "command_not_found_handle"}
    assert ran <= found  # fewer where bash finds an error and stops


# --- The whole --------------------------------------------------------------------------------------------------------------------


def test_a_saved_environment_is_cleaned_and_written_anew():
    environment = parse(SAVED + POSTINST)
    assert environment.droppings(EBUILD) == ("MY_TOKEN", "PYTHONPATH", "TZ")
    assert (
        environment.cleaned(EBUILD)
        == rb"""declare -x CHOST="x86_64-pc-linux-gnu"
declare -- DEPEND=""
declare -a DOCS=([0]="README" [1]="a b")
declare -- INHERITED
declare -x NAMED="yes"
declare -A sizes=(["small"]="1" ["very large"]="2")
declare -- text=$'two\012lines'
"""
        + POSTINST
    )
    assert environment.hashed(EBUILD) == environment.cleaned(EBUILD)
    again = parse(environment.cleaned(EBUILD))
    assert again.cleaned(EBUILD) == environment.cleaned(EBUILD)
    assert again.droppings(EBUILD) == ()


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        (b'declare -x FOREIGN="1"', False),
        (b'declare -- FOREIGN="1"', True),  # not from the builder's shell: what is exported there stays so
        (b'declare -x MENTIONED_IN_EBUILD="1"', True),
        (b'declare -x MENTIONED="1"', False),  # a part of a name is no name
        (b'declare -x PYTHONDONTWRITEBYTECODE="1"', True),
        (b'declare -x CFLAGS_x86="-m32"', True),
        (b'declare -- LANG="de_AT"', False),
        (b'declare -- GOMAXPROCS="7"', False),
        (b'declare -- LD_LIBRARY_PATH="/x"', False),
    ],
)
def test_what_came_from_the_builders_shell_is_removed(line, kept):
    environment = parse(line + b"\n")
    assert environment.cleaned(EBUILD) == (line + b"\n" if kept else b"")


def test_a_name_in_a_function_keeps_a_variable():
    saved = b'declare -x FOREIGN="1"\n'
    assert parse(saved + body('    echo "${FOREIGN}"')).droppings(EBUILD) == ()
    assert parse(saved + body('    echo "${FOREIGN_TOO}"')).droppings(EBUILD) == ("FOREIGN",)


@pytest.mark.parametrize("name", [*sorted(names.REFUSED_VARIABLES), b"___x"])
def test_a_variable_that_takes_over_is_refused(name):
    assert "takes over programs" in refusal(b'declare -- %s="x"\n' % name)


@pytest.mark.parametrize("name", ["elog", "die", "cp", "source", "has", "unset", "local", "econf", "rm", "___x", "__ebuild_main"])
def test_a_function_in_the_place_of_a_command_is_refused(name):
    assert "would take the place of a command" in refusal(body("    a").replace(b"f ()", name.encode() + b" ()"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'declare -- A=""\ndeclare -- A=""\n', "'A' is there twice or out of order"),
        (b'declare -- B=""\ndeclare -- A=""\n', "'A' is there twice or out of order"),
        (body("    a") * 2, "a function is there twice"),
        (b'declare -- A="', "a declaration without an end"),
        (b'declare -- A="\0"\n', "a zero byte"),
        (b" " * (LARGEST_ENVIRONMENT + 1), "2097153 bytes; at most 2097152 are allowed"),
        (b"".join(b"declare V%07d\n" % number for number in range(MOST_VARIABLES + 1)), "more than 10000 of them"),
        (b"".join(b"f%d () \n{ \n    a\n}\n" % number for number in range(MOST_FUNCTIONS + 1)), "one too many"),
    ],
    ids=count(),
)
def test_an_environment_is_refused_as_a_whole(text, reason):
    assert reason in refusal(text)


FILTER = Path(sys.prefix, "lib/portage/bin/filter-bash-environment.py")


@given(st.lists(ANY_VALUE, min_size=3, max_size=3))
def test_portages_own_filter_sees_the_lines_that_we_see(values):
    r"""It takes `\\"` at a line's end for an open quote, and would let the next line pass."""
    lines = [Variable(b"V%d" % number, b"-", value).line() + b"\n" for number, value in enumerate(values)]
    ran = subprocess.run([sys.executable, FILTER, "V1"], input=b"".join(lines), env=dict(os.environ), capture_output=True, check=True)
    assert ran.stdout == lines[0] + lines[2]
