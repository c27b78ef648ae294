"""The HTTP seam in memory: answers that a test sets beforehand, and what was asked."""

import json
from dataclasses import dataclass, field

from portage_p2pbin.kernel.errors import UnavailableError
from portage_p2pbin.net.trust_server import TrustServer
from tests.makers import NOW

NAME = "packages.example.org"
URL = f"https://{NAME}"


@dataclass
class RecordedHttp:
    """`answers`: what comes back by path (or `/folder/*`), in order; the last one stays.  An exception is raised, a function called with
    the body.  `asked`: path and body of each call.
    """

    answers: dict[str, list[object]] = field(default_factory=dict)
    asked: list[tuple[str, bytes]] = field(default_factory=list)

    def answer(self, path, *answers):
        self.answers[path] = list(answers)

    def find(self, url, most):
        return self._answer(url, b"", most)

    def post(self, url, body, most):
        return self._answer(url, body, most)

    def _answer(self, url, body, most):
        assert url.startswith(f"{URL}/")
        path = url.removeprefix(URL)
        self.asked.append((path, body))
        left = self.answers.get(path) or self.answers.get(f"{path.rpartition('/')[0]}/*")
        if not left:
            raise UnavailableError(url, "nobody answers")
        found = left.pop(0) if len(left) > 1 else left[0]
        if callable(found):
            found = found(body)
        if isinstance(found, Exception):
            raise found
        if found is None:
            return None
        data = found if isinstance(found, bytes) else json.dumps(found).encode()
        assert len(data) <= most
        return data

    def paths(self):
        return [path for path, _ in self.asked]

    def server(self):
        return TrustServer(self, URL, NAME, lambda: NOW)
