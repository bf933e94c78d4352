/*
 * A model of a takeover between hosts, for spin(1): a login asks the session
 * that has the session lock to end (lock-session.c, io.c).
 *
 * tests/model/run verifies it. A client of host A has gone without a word, so
 * its session is silent for ever. The same client logs in on host B again and
 * again, until it is admitted. Time is not in the model: a login may look any
 * number of times before the old session does. So it only shows that each wish
 * is answered at last, not how soon.
 */

#define REQUEST_FILE 1 /* request_elsewhere: a FIFO reaches only this host */
#define SECOND_LOOK 2  /* look_for_request: the first look only remembers */
#define LOCK_FREED 3   /* the lock server frees the locks of a dead host */
#ifndef WITHOUT
#define WITHOUT 0
#endif
#define HAS(safeguard) (WITHOUT != (safeguard))

#define LOOKS 3 /* of a login, then the answer is [IN-USE] */

bool locked = true;  /* the old session has the session lock */
bool is_new = true;  /* the file has a request that the old session has not */
                     /* seen; at first that of an earlier login */
bool asked;          /* a login has asked since the old session began */
bool admitted;       /* the new session has the lock */
bool waits;          /* a login waits for the lock or for its answer */
bool ended_unasked;

/* The old session, on host A. */
active proctype Old()
{
	bool has_looked;

	do
	:: atomic {
		/* io.c: look_for_request; lock_session_look */
		if
		:: is_new && (has_looked || !HAS(SECOND_LOOK)) ->
			ended_unasked = !asked;
			assert(!ended_unasked);
			break
		:: else
		fi;
		has_looked = true;
		is_new = false }
	:: break /* host A dies */
	od;
	if
	:: HAS(LOCK_FREED) -> locked = false
	:: else
	fi
}

/* The logins of the client, on host B. */
active proctype Login()
{
	byte looks;

	do
	:: atomic { !locked ->
		/* take_session */
		admitted = true;
		waits = false;
		break }
	:: atomic { locked && looks < LOOKS ->
		waits = true;
		if
		:: HAS(REQUEST_FILE) ->
			is_new = true;
			asked = true
		:: else
		fi;
		looks++ }
	:: atomic { locked && looks == LOOKS ->
		/* answer_unlocked: [IN-USE]; the client comes again */
		waits = false;
		looks = 0 }
	od
}

ltl answered { [] (waits -> <> !waits) }
ltl is_admitted { <> admitted }
