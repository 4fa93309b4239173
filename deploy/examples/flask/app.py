"""
A login page that logs what fail2ban's users know: one warning for each failed login.

    2023-10-27 14:38:22,557 WARNING Failed login attempt for user: admin from IP: 203.0.113.7
"""

import logging
import os
import re
import sys

from flask import Flask, request
from werkzeug.middleware.proxy_fix import ProxyFix

app = Flask(__name__)
# How many reverse proxies of yours stand in front: their X-Forwarded-For is believed.
app.wsgi_app = ProxyFix(app.wsgi_app, x_for=int(os.environ.get("PROXIES", "0")))

logging.basicConfig(
    stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
)
PASSWORD = os.environ.get("PASSWORD", "correct horse battery staple")
FORM = """<!doctype html><title>Log in</title>
<form method="post"><input name="user"><input name="password" type="password"><button>Log in</button></form>
"""


@app.get("/")
def home() -> str:
    """Greet everybody."""
    return "Welcome.\n"


@app.route("/login", methods=["GET", "POST"])
def login() -> tuple[str, int]:
    """Show the form, or judge what was sent."""
    if request.method == "GET":
        return FORM, 200
    # The name is the attacker's: no line breaks, no more than a name needs.
    user = re.sub(r"[^\x21-\x7e]", "?", request.form.get("user", ""))[:64]
    if user == "admin" and request.form.get("password") == PASSWORD:
        return "Welcome back.\n", 200
    app.logger.warning("Failed login attempt for user: %s from IP: %s", user, request.remote_addr)
    return "Wrong user or password.\n", 401
