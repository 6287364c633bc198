# Apache Airflow's official image, in the version that constraints.txt pins, with this package in it.
FROM apache/airflow:3.3.2-python3.12

# .dockerignore lets in only what is installed.
COPY --chown=airflow:0 . /usr/src/airflow-imagesync

# What the image brings stays as Airflow's release tested it and as its other providers need it; constraints.txt
# pins only what comes new. The folder is made here so that a volume mounted on it belongs to the image's user.
RUN pip list --format=freeze > /tmp/image.txt \
    && awk -F '==' '{ name = tolower($1); gsub(/[-_.]+/, "-", name) } \
        NR == FNR { present[name]; print; next } !(name in present)' \
        /tmp/image.txt /usr/src/airflow-imagesync/constraints.txt > /tmp/pins.txt \
    && pip install --no-cache-dir --constraint /tmp/pins.txt /usr/src/airflow-imagesync \
    && rm /tmp/image.txt /tmp/pins.txt \
    && mkdir "${AIRFLOW_HOME}/reports"
