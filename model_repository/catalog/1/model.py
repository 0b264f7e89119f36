from tridex.serving.backend.python_backend import python_model
from tridex.serving.models.catalog import CatalogService

TritonPythonModel = python_model(CatalogService)
