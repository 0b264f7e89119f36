"""The served models and the server around them.

    models       what Triton server loads, one file per folder of model_repository/
    requests     a model's raw requests as typed values
    engine       a batch of searches to their hits
    modes        the ways to find and rank documents
    collections  what is loaded, admitted and maintained
    backend      what every model is made of: services, scheduling, the Python backend
    server       tritonserver as a process: found, started, watched, stopped
    cli          `tridex serve`
    settings     every setting of all of these
    run_folder   how models and server tell each other how they are

The rooms from `models` to `backend` import only downwards. They need neither Triton server nor a running process.
"""
