"""Has graphite-web draw each graph that curves.php printed, out of numbers made for it, and prints as JSON the labels of
the curves that have numbers and the type of the picture. The argument is a folder to make and use."""

import json
import os
import sys
import time
import types

ROOT = sys.argv[1]
os.makedirs(ROOT)
settings = types.ModuleType("settings_of_the_test")
settings.SECRET_KEY = "of no use"
settings.GRAPHITE_ROOT = settings.STORAGE_DIR = settings.CONF_DIR = settings.LOG_DIR = ROOT
settings.WHISPER_DIR = settings.CERES_DIR = settings.RRD_DIR = ROOT
settings.STANDARD_DIRS = [ROOT]
settings.INDEX_FILE = ROOT + "/index"
settings.TIME_ZONE = "UTC"
settings.ALLOWED_HOSTS = ["*"]
settings.DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ROOT + "/db"}}
sys.modules[settings.__name__] = settings
os.environ["GRAPHITE_SETTINGS_MODULE"] = settings.__name__
os.environ["DJANGO_SETTINGS_MODULE"] = "graphite.settings"

import django  # noqa: E402, as it reads the settings

django.setup()

import whisper  # noqa: E402
from django.test import Client  # noqa: E402

NOW = int(time.time())


def fill(path):
    """An hour of numbers."""
    file = ROOT + "/" + path.replace(".", "/") + ".wsp"
    if not os.path.exists(file):
        os.makedirs(os.path.dirname(file), exist_ok=True)
        whisper.create(file, [(60, 120)])
        whisper.update_many(file, [(NOW - 60 * minute, minute) for minute in range(1, 60)])


def get(graph, form):
    targets = [curve["function"] for curve in graph["curves"].values()]
    query = dict(graph["parameters"], target=targets, format=form, width="600", height="300")
    query["from"] = "-1h"
    return Client().get("/render", query)


def draw(graph):
    for curve in graph["curves"].values():
        fill(curve["path"])
    curves = json.loads(get(graph, "json").content)
    full = [curve for curve in curves if any(value is not None for value, _ in curve["datapoints"])]
    return {"labels": [curve["target"] for curve in full], "picture": get(graph, "png")["Content-Type"]}


graphs = json.load(sys.stdin)
print(json.dumps({command: {name: draw(graph) for name, graph in of.items()} for command, of in graphs.items()}))
