"""Opens the page of `roadhound run` in headless Chromium, draws a box in it and waits until the box is followed, then taps a
thing and waits until that is.

Usage: preview_browser.py CHROMIUM URL SCREENSHOT.png [WIDTH HEIGHT]. Needs nothing but Python: the protocol is JSON over
a WebSocket, of which a client needs little.
"""
import base64
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request


class Page:
    def __init__(self, address):
        host, rest = address.removeprefix("ws://").split("/", 1)
        name, port = host.split(":")
        self.socket = socket.create_connection((name, int(port)), timeout=60)
        key = base64.b64encode(os.urandom(16)).decode()
        head = f"GET /{rest} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        self.socket.sendall(head.encode())
        self.stream = self.socket.makefile("rb")
        while self.stream.readline().strip():
            pass
        self.number = 0

    def call(self, method, **parameters):
        self.number += 1
        text = json.dumps({"id": self.number, "method": method, "params": parameters}).encode()
        length = struct.pack(">BBH", 0x81, 0x80 | 126, len(text))
        mask = os.urandom(4)
        self.socket.sendall(length + mask + bytes(b ^ mask[n % 4] for n, b in enumerate(text)))
        while True:
            answer = json.loads(self.receive())
            if answer.get("id") == self.number:
                if "error" in answer:
                    sys.exit(f"{method}: {answer['error']}")
                return answer["result"]

    def receive(self):
        message = b""
        while True:
            first, length = self.stream.read(2)
            length &= 0x7F
            if length == 126:
                (length,) = struct.unpack(">H", self.stream.read(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", self.stream.read(8))
            message += self.stream.read(length)
            if first & 0x80:
                return message

    def value(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in result:
            sys.exit(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def until(self, expression, seconds=60):
        end = time.monotonic() + seconds
        while not self.value(expression):
            if time.monotonic() > end:
                sys.exit(f"not within {seconds} s: {expression}; the page says {self.value('document.body.innerText')!r}")
            time.sleep(0.1)


def main():
    chromium, url, screenshot = sys.argv[1:4]
    width, height = (int(v) for v in (sys.argv[4:6] or ("1024", "900")))
    profile = tempfile.mkdtemp()
    browser = subprocess.Popen(
        [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0",
         f"--user-data-dir={profile}", f"--window-size={width},{height}", "about:blank"],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        port = next(line.split(":")[2].split("/")[0] for line in browser.stderr if "DevTools listening" in line)
        targets = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json"))
        page = Page(next(t["webSocketDebuggerUrl"] for t in targets if t["type"] == "page"))
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        page.call("Page.navigate", url=url)
        page.until("typeof shown === 'object' && shown !== null")
        # The box of the test, in pixels of the picture, to where it is on the screen.
        x, y, w, h = (float(v) for v in os.environ.get("BOX", "30,31,24,25").split(","))
        area = json.loads(page.value("JSON.stringify([picture.getBoundingClientRect(), picture.width, picture.height])"))
        scale_x, scale_y = area[0]["width"] / area[1], area[0]["height"] / area[2]
        at = lambda px, py: {"x": area[0]["x"] + px * scale_x, "y": area[0]["y"] + py * scale_y}
        mouse = lambda kind, px, py: page.call("Input.dispatchMouseEvent", type=kind, button="left", buttons=1, clickCount=1, **at(px, py))
        mouse("mousePressed", x, y)
        for n in range(1, 5):
            mouse("mouseMoved", x + w * n / 4, y + h * n / 4)
        mouse("mouseReleased", x + w, y + h)
        page.until("document.getElementById('phase').textContent === 'tracking'")
        page.until("track.box !== null && !from")
        found = page.value("track.box")
        time.sleep(2)
        picture = page.call("Page.captureScreenshot", format="png")
        with open(screenshot, "wb") as file:
            file.write(base64.b64decode(picture["data"]))
        wide = page.value("document.documentElement.scrollWidth")
        if wide > width:
            sys.exit(f"the page is {wide} px wide on a screen of {width}")
        stop = lambda: (page.value("document.getElementById('stop').click()"),
                        page.until("document.getElementById('phase').textContent === 'idle' && track.box === null"))
        stop()
        # A fingertip, or the mouse, that trembles: a tap and no box of a few pixels.
        px, py = x + w / 2, y + h / 2
        if width < 600:
            finger = lambda kind, *points: page.call("Input.dispatchTouchEvent", type=kind, touchPoints=[
                {"x": at(px, py)["x"] + dx, "y": at(px, py)["y"] + dy} for dx, dy in points])
            finger("touchStart", (0, 0))
            finger("touchMove", (5, -4))
            finger("touchEnd")
        else:
            mouse("mousePressed", px, py)
            mouse("mouseMoved", px + 2 / scale_x, py)
            mouse("mouseReleased", px + 2 / scale_x, py)
        page.until("document.getElementById('phase').textContent === 'tracking' && track.box !== null && !from")
        stop()
        print(json.dumps(found))
    finally:
        browser.kill()
        browser.wait()
        # Its helpers may still write there for a moment.
        shutil.rmtree(profile, ignore_errors=True)


main()
