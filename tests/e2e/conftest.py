"""End-to-end tests run real programs only, and none of them may be left out: a skipped one is a failed one."""

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped; end-to-end tests must run: {report.longrepr}"
    return report
