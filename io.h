/* A buffered connection with a deadline: see io.c. */
#ifndef IO_H
#define IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Bytes of input that may wait unread. What a client pipelines after the login
 * must fit, because the session gets it in one message.
 */
#define IO_IN 1024
/*
 * Bytes of output: an answer of up to 64 KiB leaves in one write; the rest is
 * for what is written meanwhile.
 */
#define IO_OUT 131072

enum io_error {
	IO_OK,
	IO_CLOSED,        /* the peer has closed or reset the connection */
	IO_TIMEOUT,       /* the peer has not sent its input in time */
	IO_WRITE_TIMEOUT, /* the peer has not taken the output in time */
	IO_TAKEN_OVER,    /* idle when a takeover request came */
	IO_FAILED,        /* any other error */
};

struct io {
	int fd;
	/*
	 * For everything, in ms of CLOCK_MONOTONIC; 0: none, the timeouts
	 * count.
	 */
	int64_t deadline;
	int64_t idle;          /* timeout for one line of input, in ms */
	int64_t write_timeout; /* for one buffer of output, in ms */
	/*
	 * Readable when a second login asks for the end of this connection; -1:
	 * none can ask.
	 */
	int takeover;
	/*
	 * Milliseconds without a byte after which a takeover request ends the
	 * connection.
	 */
	int64_t takeover_idle;
	/* io_exact reads no more from the socket than it was asked for */
	bool no_read_ahead;
	/*
	 * The first error stays: after it nothing more is read, returned or
	 * written.
	 */
	enum io_error error;
	/* Bytes of the line that io_line read last, with its end. */
	uint64_t line_size;
	size_t in_at, in_end, out_end;
	char in[IO_IN];
	char out[IO_OUT];
};

/* What io_line returns besides a length. */
#define IO_LINE_ERROR (-1) /* io->error is set */
/* Too long; the whole line has been read, and line contains its beginning. */
#define IO_LINE_LONG (-2)

/*
 * Begins on the connected socket fd. Everything must end by the deadline, in ms
 * of CLOCK_MONOTONIC.
 */
void io_init(struct io *io, int fd, int64_t deadline);

/*
 * Replaces the deadline by timeouts: idle ms for each line of input,
 * write_timeout ms for each buffer of output.
 */
void io_limits(struct io *io, int64_t idle, int64_t write_timeout);

/*
 * From now on ends the connection if takeover becomes readable while the peer
 * has been idle for at least idle ms. takeover remains the caller's.
 */
void io_allow_takeover(struct io *io, int takeover, int64_t idle);

/*
 * Continues with another socket. Input of the old socket that was not used is
 * discarded.
 */
void io_switch(struct io *io, int fd);

/*
 * Puts n <= IO_IN bytes, which another process has read, before the input of
 * the socket.
 */
void io_prime(struct io *io, const void *data, size_t n);

/*
 * Returns the number of bytes that were read but not used, and stores their
 * address, valid until the next read.
 */
size_t io_unread(const struct io *io, const char **data);

/*
 * Reads a line that ends in LF or CRLF into line[size], without its end and
 * with a NUL after it. Returns its length (a NUL in it counts like any byte),
 * IO_LINE_LONG if the line with its end needs more than size bytes, or
 * IO_LINE_ERROR. Sends waiting output first unless a whole line is buffered.
 */
int io_line(struct io *io, char *line, size_t size);

/* Reads exactly n bytes. Returns 0, or -1 with io->error set. */
int io_exact(struct io *io, void *data, size_t n);

/*
 * Appends n bytes to the output and sends it whenever the buffer is full. Sets
 * io->error if that fails.
 */
void io_write(struct io *io, const void *data, size_t n);

/* Appends a formatted text of less than 512 bytes, as io_write does. */
void io_printf(struct io *io, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * Makes room for at least need bytes of output (need <= IO_OUT). Returns its
 * address, and in *room how many bytes there are. Follow it by io_advance.
 */
char *io_reserve(struct io *io, size_t need, size_t *room);

/* Appends the n bytes that the caller has written to the room of io_reserve. */
void io_advance(struct io *io, size_t n);

/* Sends waiting output. Returns 0, or -1 with io->error set. */
int io_flush(struct io *io);

/*
 * Sends waiting output, then waits until the peer's kernel has acknowledged all
 * that was sent, or on a socket pair until the other end has read it. The write
 * timeout begins again each time fewer bytes are outstanding. A peer that has
 * ended only its own direction still counts as connected. Returns 0, also if
 * the kernel cannot count what is outstanding, or -1 with io->error set.
 */
int io_await_acknowledged(struct io *io);

/*
 * If the error is IO_TIMEOUT, sends n bytes nevertheless and ends our direction
 * of the connection. After any other error nothing is sent. The error stays.
 */
void io_answer_timeout(struct io *io, const void *data, size_t n);

/*
 * Sends waiting output, ends our direction of the connection and discards what
 * the peer still sends, for at most two seconds. Otherwise closing a socket
 * with unread input would reset the connection, and the answer could be lost.
 */
void io_linger(struct io *io);

#endif
