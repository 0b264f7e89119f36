from tridex.serving.backend.python_backend import python_model
from tridex.serving.models.search import SearchService

TritonPythonModel = python_model(SearchService)
