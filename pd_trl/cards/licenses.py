"""Licence identifiers that the Hub knows."""

import re

# https://huggingface.co/docs/hub/repositories-licenses
_KNOWN = frozenset(
    """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl
    lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl
    openmdw-1.0 openmdw-1.1 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
    fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 gemma grok2-community
    unknown other
    """.split()
)


def license_metadata(license: str | None, name: str | None = None, link: str | None = None) -> dict[str, str]:
    """
    The YAML keys of a licence: an identifier of the Hub, or `other` with a name.

    Args:
        license (`str`, *optional*): Identifier, or any name; `None` gives no keys.
        name, link (`str`, *optional*): `license_name` and `license_link` of a licence `other`.
    """
    if not license or not license.strip():
        return {}
    identifier = license.strip().lower()
    known = identifier in _KNOWN
    entries = {"license": identifier if known else "other"}
    if entries["license"] == "other":
        slug = re.sub(r"[^a-z0-9.\-]+", "-", (name or ("" if known else license)).lower()).strip("-")
        entries |= {"license_name": slug} if slug else {}
        entries |= {"license_link": link.strip()} if link and link.strip() else {}
    return entries
