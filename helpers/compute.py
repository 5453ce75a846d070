"""Parallel: several small trainings at a time."""

from concurrent.futures import ThreadPoolExecutor


def together(function, jobs, threads: int = 2) -> list:
    """Call ``function(*job)`` for every job, some at a time, and return the results in order.

    In threads: TensorFlow computes outside of Python's lock, so that two small trainings share two
    cores well, and their results are those of one after the other. Whatever draws from a global
    seed (``keras.utils.set_random_seed``, a layer built without a seed) must be done before.

    Args:
        function: what to call.
        jobs: tuples of arguments.
        threads: how many run at a time, from 1.

    Raises:
        whatever a call raises; jobs that have not started then do not start.
    """
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(function, *job) for job in jobs]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
