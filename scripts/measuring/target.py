"""An HTTP target for Prometheus whose page is that of the load at the moment of the scrape."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from measuring.rule_load import RuleLoad


class Target:
    """Serves `load` on a free port; page 0 is that of the time at which this was made."""

    def __init__(self, load: RuleLoad) -> None:
        self.load = load
        self.began = time.time()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = outer.load.page(outer.page(time.time()))
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Nobody reads a line a scrape."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def page(self, at: float) -> int:
        return int((at - self.began) // self.load.every_seconds)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
