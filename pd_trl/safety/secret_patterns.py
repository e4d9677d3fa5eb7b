"""What secrets look like in a text."""

import re

PEM = re.compile(r"-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)", re.S)
ADDRESS = re.compile(r"(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]*)://([^\s\"'<>`|\\^{}]+)")
TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:hf|api_org)_[A-Za-z0-9]{16,}"
    r"|sk-(?:proj|ant|or|svcacct|admin|live|test)-[\w-]{8,}|[sr]k_(?:live|test)_\w{8,}|(?:sk|pplx|xai|nvapi|csk)-[A-Za-z0-9]{16,}"
    r"|gsk_[A-Za-z0-9]{16,}|r8_[A-Za-z0-9]{16,}"
    r"|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|xox[abeoprs]-[\w-]{10,}|npm_[A-Za-z0-9]{30,}|pypi-[\w-]{40,}"
    r"|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[\w-]{30,}|ya29\.[\w.-]{16,}"
    r"|eyJ[\w-]{8,500}\.[\w-]{8,}\.[\w-]*"
    r"|hooks\.slack\.com/services/[^\s\"']+"
    r")"
)
LOGIN = re.compile(
    r"(?i)(?<![A-Za-z0-9])((?:proxy-)?authorization[\"']?\s*[:=]\s*[\"']?(?:[a-z]+\s+)?)[^\s\"',;*]+"
    r"|(?<![A-Za-z0-9])(bearer\s+)[\w.~+/=-]{8,}|(?<![A-Za-z0-9])(basic\s+)(?=[\w.~+/=-]*[\d=+/])[\w.~+/=-]{8,}"
)
ASSIGNED = re.compile(r"(?<![\w.-])([\w.-]+)(?:\\*[\"'])?\s*[:=]\s*")
VALUE = re.compile(r"\\+\"(?:[^\"\\]|\\+[^\"\\])*\\+\"|\"[^\"]*\"|'[^']*'|\[[^\]]*\]|[^\s\"',;&)\]}]+")
FLAG = re.compile(r"(?<![\w-])(--[\w.-]+)([\"']?,?\s+[\"']?)(?!-)([^\s\"',\]]+)")
# `curl -u user:password`, also without the space, and `sshpass -p`.
USER_FLAG = re.compile(
    r"((?<![\w-])(?:-[uU]|--(?:proxy-)?user)(?:\s+|=)|\bcurl\b[^\n|;]{0,200}?\s-[uU](?=\w)|\bsshpass\s+-p\s*)"
    r"(?:\"(?P<q>[^\"]*)\"|'(?P<s>[^']*)'|(?P<b>[^\s\"']+))"
)
# A text as an address or a form carries it.
QUOTED = re.compile(r"(?<![\w.~+*!%-])[\w.~+*!-]*(?:%[0-9A-Fa-f]{2}[\w.~+*!-]*)+")
USER_AT_HOST = re.compile(r"(?<![\w/@.+%-])[\w.+%-]+:[^\s/@:\"']+@(?=[\w.-]+:\d)")
PATH = re.compile(
    r"(?:(?<=^)|(?<=[\s\"'=:,;(\[{]))(?:(?i:file):/+|(?:~[\w.-]*|\.\.?|\$\{?\w+\}?|[A-Za-z]:)(?=[/\\])|(?=/[^\s\"',;:)\]}/]+/))[^\s\"',;:)\]}]*"
)
